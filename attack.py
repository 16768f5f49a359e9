"""Attack what the same words made: python attack.py pruner=hydra ratio=0.99 attack=autoattack

Or any weights: python attack.py checkpoint=model.safetensors model=resnet18 dataset=cifar10
"""

import hydra
from omegaconf import DictConfig

from advprune.config import schema
from advprune.launch.grid import launch
from advprune.pipeline import job
from advprune.pipeline.plan import plan_attack

schema.register()


@hydra.main(version_base="1.3", config_path="conf", config_name="attack")
def main(cfg: DictConfig) -> float:
    """Attack, print the table; returns robust accuracy."""
    return job.run(cfg, plan_attack, value="robust_acc")


if __name__ == "__main__":
    launch(main)
