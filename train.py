"""Train a dense robust network, attack it, and print the table.

    python train.py model=resnet18 dataset=cifar10 objective=trades

The pipeline is ``dense >> quantized >> evaluated``; see prune.py.
"""

import hydra
from omegaconf import DictConfig

from advprune.config import schema
from advprune.launch.grid import launch
from advprune.pipeline import job
from advprune.pipeline.plan import plan_dense

schema.register()


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> float:
    """Run one job; return its accuracy on validation images, for sweepers."""
    return job.run(cfg, plan_dense)


if __name__ == "__main__":
    launch(main)
