"""Read files of scores: HYDRA's, HARP's, robust scratch tickets', and a dense parent's.

Written from what the modules of inspire-group/hydra@adaa2b4, intellisec/harp@9f343c0 and
GATECH-EIC/Robust-Scratch-Ticket@72fbe0a compute; their counts, which truncate, are kept.
"""

import torch
from torch import Tensor

from advprune.errors import UserError
from advprune.masks import authors_count, top_k
from advprune.models.checkpoints.layouts.layout import (
    State,
    each_layer,
    finite,
    is_mask,
    keep_share,
    spread,
)

#: What HARP's layers keep at least, as a share of what the network keeps.
FLOOR = 0.1
SCORES = frozenset({"popup_scores"})
RATED = frozenset({"popup_scores", "k_score"})
TICKET = frozenset({"scores"})


def hydra(file: State, network: State, ratio: float | None) -> State:
    """Keep the same share of each layer: the largest absolute ``popup_scores``."""

    def fold(layer: State) -> State:
        scores, weight = finite(layer["popup_scores"]), layer["weight"]
        mask = top_k(scores, authors_count(scores.numel(), keep_share(ratio)))
        return {"weight": weight * spread(mask, weight, "popup_scores")}

    return each_layer(file, SCORES, fold)


def harp(file: State, network: State, ratio: float | None) -> State:
    """Keep of each layer what its learned ``k_score`` says, of weights or of input channels.

    Raises:
        UserError: if no rate was ever trained, as in the dense network that HARP starts from.
    """

    def fold(layer: State) -> State:
        scores, weight = finite(layer["popup_scores"]), layer["weight"]
        rate = keep_rate(layer["k_score"], keep_share(ratio))
        if scores.shape[0] == 1 and scores.shape[:2] != weight.shape[:2]:
            return {"weight": weight * _channels(scores, weight, rate)}
        removed = int((1 - rate) * scores.numel())
        mask = top_k(scores, scores.numel() - removed)
        return {"weight": weight * spread(mask, weight, "popup_scores")}

    rates = [tensor for name, tensor in file.items() if name.rpartition(".")[2] == "k_score"]
    if all((rate == 1).all() for rate in rates):
        raise UserError(
            "has rates (k_score) that are all 1, as HARP's pre-training leaves them, so its scores "
            "are random and choose nothing: it is a dense network; give layout=pretrained"
        )
    return each_layer(file, RATED, fold)


def keep_rate(score: Tensor, keep: float) -> Tensor:
    """Return the share that a layer keeps: a floor, and the rest by the sigmoid of its score."""
    least = keep * FLOOR
    return torch.sigmoid(score.float()) * (1 - least) + least


def _channels(scores: Tensor, weight: Tensor, rate: Tensor) -> Tensor:
    """Return the mask (1, I, 1, …) of the input channels with the largest scores."""
    inputs = weight.shape[1]
    if scores.numel() != inputs:
        raise UserError(
            f"popup_scores for {scores.numel()} input channels, and the weight has {inputs}: they "
            "are of two networks; save model.state_dict() of one"
        )
    mask = top_k(scores.reshape(inputs), int(torch.round(rate * inputs)))
    return mask.reshape(1, inputs, *[1] * (weight.ndim - 2))


def rst(file: State, network: State, ratio: float | None) -> State:
    """Keep the largest absolute ``scores`` a layer: of weights, kernels, rows or filters.

    After fine-tuning the scores are 0 and 1, and are the mask. BatchNorm without gamma and beta
    gets 1 and 0; a classifier that is a 1x1 convolution without bias becomes a linear layer's.
    """

    def fold(layer: State) -> State:
        scores, weight = finite(layer["scores"]), layer["weight"]
        if not is_mask(scores):
            scores = top_k(scores, authors_count(scores.numel(), keep_share(ratio)))
        return {"weight": weight * spread(scores, weight, "scores")}

    return _linear_classifier(_with_affine(each_layer(file, TICKET, fold, everywhere=False)))


def _with_affine(file: State) -> State:
    added: State = {}
    for name, mean in file.items():
        layer, _, leaf = name.rpartition(".")
        if leaf == "running_mean" and f"{layer}.weight" not in file:
            added |= {
                f"{layer}.weight": torch.ones_like(mean),
                f"{layer}.bias": torch.zeros_like(mean),
            }
    return file | added


def _linear_classifier(file: State) -> State:
    weights = [name for name, tensor in file.items() if tensor.ndim >= 2]
    if not weights or file[weights[-1]].ndim != 4 or file[weights[-1]].shape[2:] != (1, 1):
        return file
    weight = file[weights[-1]].flatten(1)
    bias = weights[-1].removesuffix("weight") + "bias"
    return {bias: weight.new_zeros(len(weight)), **file, weights[-1]: weight}


def pretrained(file: State, network: State, ratio: float | None) -> State:
    """Leave scores and rates out: a dense parent in layers that keep them, and do not use them."""
    unused = RATED | TICKET
    return {n: tensor for n, tensor in file.items() if n.rpartition(".")[2] not in unused}
