// What metal-cpp asks of Apple's header of this name, for a build on Linux.
#pragma once
typedef struct dispatch_queue_s* dispatch_queue_t;
typedef struct dispatch_data_s* dispatch_data_t;
