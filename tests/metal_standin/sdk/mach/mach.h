// What metal-cpp asks of Apple's header of this name, for a build on Linux.
#pragma once
typedef int kern_return_t;
typedef unsigned int task_id_token_t;
