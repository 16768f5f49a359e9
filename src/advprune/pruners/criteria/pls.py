"""PLS + VIP: importance in a projection on the classes (Jordao et al. 2019 and 2020).

https://arxiv.org/abs/1810.07610

Filters: each one's largest pre-BatchNorm output in an image is a feature; scikit-learn's
PLSRegression on all filters together; a filter scores its VIP. Blocks: one regression for each on
its sum, averaged over 8x8 pixels; the score is mean(VIP) / std(VIP), the paper's, which ranks as
the code's mean(VIP) does.
"""

from typing import Annotated, TypeAlias

import numpy as np
import torch
from annotated_types import Ge, Le
from sklearn.cross_decomposition import PLSRegression
from torch import Tensor, nn
from torch.nn import functional as F

from advprune.masks import Scores
from advprune.pruners.criteria.feature_maps import Batches, Sites, limited, outputs
from advprune.ranges import Count
from advprune.sites import FilterSite

POOL = 8
Components: TypeAlias = Annotated[int, Ge(1), Le(100)]


def pls(
    model: nn.Module,
    batches: Batches,
    *,
    sites: Sites,
    images: Count | None = 5000,
    components: Components = 2,
) -> Scores:
    """Score filters or blocks; larger = keep.

    Args:
        model: a network from images (N, C, H, W) to logits (N, K).
        batches: training batches (x, y).
        sites: all filter sites or all block sites of the model.
        images: how many are looked at; None for all.
        components: of the projection.
    """
    filters = bool(sites) and isinstance(sites[0], FilterSite)
    rows: dict[str, list[Tensor]] = {site.name: [] for site in sites}
    labels = []
    for x, y in limited(batches, images):
        maps = outputs(model, x, list(rows))
        for name in rows:
            rows[name].append((maps[name].amax((2, 3)) if filters else _pooled(maps[name])).cpu())
        labels.append(y.cpu())
    features = {name: torch.cat(parts).numpy().astype(np.float64) for name, parts in rows.items()}
    classes = np.eye(int(torch.cat(labels).max()) + 1)[torch.cat(labels).numpy()]
    if not filters:
        scores = {name: vip(z, classes, components) for name, z in features.items()}
        return {name: torch.tensor(v.mean() / max(v.std(), 1e-12)) for name, v in scores.items()}
    together = torch.from_numpy(
        vip(np.concatenate(list(features.values()), 1), classes, components)
    )
    widths = [z.shape[1] for z in features.values()]
    return dict(zip(features, together.split(widths), strict=True))


def vip(features: np.ndarray, targets: np.ndarray, components: int) -> np.ndarray:
    """Return each feature's variable importance in projection; their squares' mean is 1.

    Args:
        components: of the projection.
        features: (images, features).
        targets: (images, targets), one-hot classes or numbers.
    """
    model = PLSRegression(n_components=components, scale=True).fit(features, targets)
    explained = np.square(model.x_scores_).sum(0) * np.square(model.y_loadings_).sum(0)
    weights = model.x_weights_ / np.linalg.norm(model.x_weights_, axis=0)
    return np.sqrt(features.shape[1] * np.square(weights) @ explained / explained.sum())


def _pooled(maps: Tensor) -> Tensor:
    return F.avg_pool2d(maps, min(POOL, *maps.shape[-2:])).flatten(1)
