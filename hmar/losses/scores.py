"""Scores of a batch's true items and of its sampled negatives, for the losses that compare them; in float32 at least,
whatever precision the products were made in."""

import torch
from torch import Tensor

from hmar.data.count_runs import CountRuns
from hmar.models.base import Encoder, TrainingBatch


def positive_scores(encoder: Encoder, queries_TD: Tensor, batch: TrainingBatch) -> Tensor:
    """s_+ of every position, [T]."""
    hbi = batch.next_hbi if encoder.uses_hbi else None
    scores_T = _at_least_single((queries_TD * encoder.item_vectors(batch.next_item, hbi)).sum(-1))
    if not encoder.uses_recency:
        return scores_T
    assert batch.next_evidence is not None, "an encoder that reads recency needs the batch's evidence"
    weights_TF = _at_least_single(encoder.evidence_weights(queries_TD))
    return scores_T + (weights_TF * encoder.features(batch.next_evidence)).sum(-1)


def negative_scores(encoder: Encoder, queries_TD: Tensor, batch: TrainingBatch) -> Tensor:
    """s_n of every position's negatives, [T, N]; -inf where a negative that all positions share is the true item, and
    where the encoder leaves it out."""
    if batch.negatives.ndim == 1:
        return _shared_scores(encoder, queries_TD, batch)
    hbi = batch.negative_hbi if encoder.uses_hbi else None
    vectors_TND = encoder.item_vectors(batch.negatives, hbi)
    if vectors_TND.shape[1] == 1:  # products of matrices with one row are ten times slower
        scores_TN = _at_least_single((queries_TD[:, None] * vectors_TND).sum(-1))
    else:
        scores_TN = _at_least_single(torch.einsum("td,tnd->tn", queries_TD, vectors_TND))
    if not encoder.uses_recency:
        return scores_TN
    assert batch.negative_evidence is not None, "an encoder that reads recency needs the batch's evidence"
    weights_TF = _at_least_single(encoder.evidence_weights(queries_TD))
    features_TNF = encoder.features(batch.negative_evidence).to(weights_TF.dtype)
    scores_TN = scores_TN + (features_TNF * weights_TF[:, None]).sum(-1)
    left_out_TN = encoder.left_out(batch.negative_evidence)
    return scores_TN if left_out_TN is None else scores_TN.masked_fill(left_out_TN, -torch.inf)


def positive_weighted(encoder: Encoder, batch: TrainingBatch, losses_T: Tensor) -> Tensor:
    """w_t times the loss of position t, [T]."""
    weights_T = encoder.position_weights(batch)
    return losses_T if weights_T is None else weights_T * losses_T


def _shared_scores(encoder: Encoder, queries_TD: Tensor, batch: TrainingBatch) -> Tensor:
    """One matrix product for all positions; what a user's counts add is put in where there are any."""
    # A negative may have been drawn several times, and each cell of counts belongs to one column.
    items, place = batch.negatives.unique(return_inverse=True)
    if encoder.uses_counts:
        scores_TU = _with_counts(encoder, queries_TD, batch, items)
    else:
        scores_TU = queries_TD @ encoder.item_vectors(items, None).T
    scores_TN = _at_least_single(scores_TU)[:, place]
    return scores_TN.masked_fill(batch.negatives == batch.next_item[:, None], -torch.inf)


def cells(
    encoder: Encoder, batch: TrainingBatch, runs: CountRuns, position: Tensor, run: Tensor
) -> tuple[Tensor, Tensor | None]:
    """phi of the cells (position, run), int64 [P] each, positions being those of the batch, [P, F]; and which of them
    are left out, bool [P], none of which is a true item."""
    evidence = runs.evidence(position, run, batch.next_event, batch.next_time)
    left_out_P = encoder.left_out(evidence) if encoder.uses_recency else None
    if left_out_P is not None:
        left_out_P = left_out_P & (runs.item[run] != batch.next_item[position])
    return encoder.features(evidence), left_out_P


def _with_counts(encoder: Encoder, queries_TD: Tensor, batch: TrainingBatch, items: Tensor) -> Tensor:
    """Scores of chosen, distinct, sorted items at every position, [T, U]."""
    runs = batch.count_runs
    assert runs is not None, "shared negatives of an encoder that uses counts need the batch's count runs"
    never_R = queries_TD.new_zeros(1, len(encoder.vocabulary.behaviors)) if encoder.uses_hbi else None
    weights_TF = _at_least_single(encoder.evidence_weights(queries_TD))
    scores_TU = _at_least_single(queries_TD @ encoder.item_vectors(items, never_R).T)
    if encoder.uses_hbi:
        scores_TU = scores_TU + weights_TF.gather(1, batch.next_behavior[:, None])
    column = torch.searchsorted(items, runs.item).clamp(max=len(items) - 1)
    drawn = (items[column] == runs.item).nonzero()[:, 0]
    runs, column = runs.select(drawn), column[drawn]
    position, run = runs.cells()
    features_PF, left_out_P = cells(encoder, batch, runs, position, run)
    added_P = (weights_TF[position] * features_PF.to(weights_TF.dtype)).sum(-1)
    if left_out_P is not None:
        added_P = added_P.masked_fill(left_out_P, -torch.inf)
    return scores_TU.index_put((position, column[run]), added_P, accumulate=True)


def _at_least_single(scores: Tensor) -> Tensor:
    return scores.float() if scores.dtype in (torch.bfloat16, torch.float16) else scores
