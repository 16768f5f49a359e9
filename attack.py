"""Attack what prune.py makes of the same words, or any weights, and print the table.

python attack.py pruner=hydra ratio=0.99 attack=autoattack
python attack.py checkpoint=model.safetensors model=resnet18 dataset=cifar10
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
    """Run one job; return its robust accuracy, for sweepers."""
    return job.run(cfg, plan_attack, value="robust_acc")


if __name__ == "__main__":
    launch(main)
