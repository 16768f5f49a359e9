"""Name the types that all tables share: a row, and the record of a job."""

from typing import Any

#: A row of a table, of one evaluation or of several seeds' pooled. Its columns:
#:
#: * what it is of: dataset, model, objective, pruner, ratio, quantizer, attack, norm, eps,
#:   perturbation, source, foreign, unit (what was removed); seed, or seeds for how many;
#: * what was counted: sparsity, zeros, params, macs, dense_params, dense_macs, images, of, seconds;
#: * shares in [0, 1], None where not measured, each with ``_interval`` ([low, high]): clean_acc,
#:   robust_acc, certified_acc, target_acc, both_correct, transfer_rate, and with ``dense_`` before
#:   them the dense parent's;
#: * what a reader must know: doubts, checkpoint, code, precision, ranks, batch_norm.
Row = dict[str, Any]
#: A job's ``job.json``: ``row``, or the text of its failure as ``failed``; names and overrides.
JobRecord = dict[str, Any]
