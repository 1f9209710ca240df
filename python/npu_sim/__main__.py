"""``python -m npu_sim`` is ``npu-sim``."""

from npu_sim.cli import main

if __name__ == "__main__":
    main()
