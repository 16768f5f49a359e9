"""dense -> prune -> fine-tune -> attack: python prune.py pruner=hydra ratio=0.99 -m"""

import hydra
from omegaconf import DictConfig

from advprune.config import schema
from advprune.launch.grid import launch
from advprune.pipeline import job
from advprune.pipeline.plan import plan_pruned

schema.register()


@hydra.main(version_base="1.3", config_path="conf", config_name="prune")
def main(cfg: DictConfig) -> float:
    """Find or make every stage, print the table; returns accuracy on validation images, for sweepers."""
    return job.run(cfg, plan_pruned)


if __name__ == "__main__":
    launch(main)
