"""Train, prune, fine-tune and attack a network, and print the table.

    python prune.py pruner=hydra ratio=0.99

The pipeline is ``dense >> pruned >> finetuned >> quantized >> evaluated``:

    dense      train the unpruned network, or read it     src/advprune/stages/dense.py
    pruned     remove the share ``ratio`` of it           src/advprune/stages/pruned.py
    finetuned  recover what is left                       src/advprune/stages/finetuned.py
    quantized  bring it to 8 bits, if ``quantizer`` says  src/advprune/stages/quantized.py
    evaluated  attack every test image                    src/advprune/stages/evaluated.py

``pipeline/plan.py`` plans these stages; ``pipeline/executor.py`` makes those that are not in the
store yet. HYDRA's own line is in ``pruners/hydra.py``: ``_keep`` leaves the largest scores.
"""

import hydra
from omegaconf import DictConfig

from advprune.config import schema
from advprune.launch.grid import launch
from advprune.pipeline import job
from advprune.pipeline.plan import plan_pruned

schema.register()


@hydra.main(version_base="1.3", config_path="conf", config_name="prune")
def main(cfg: DictConfig) -> float:
    """Run one job; return its accuracy on validation images, for sweepers."""
    return job.run(cfg, plan_pruned)


if __name__ == "__main__":
    launch(main)
