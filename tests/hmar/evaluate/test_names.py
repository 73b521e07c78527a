"""The public metric names: growing or changing them is a decision, and MLflow must take every one."""

from hmar.evaluate.names import CANDIDATES, LIST_METRICS, RANK_METRICS, STRATA, full_name, tracked


def test_the_names_are_these() -> None:
    assert CANDIDATES == ("full", "sampled")
    assert RANK_METRICS == ("hr@5", "hr@10", "hr@20", "ndcg@5", "ndcg@10", "ndcg@20", "mrr")
    assert LIST_METRICS == ("coverage@10", "coverage@20", "popularity_percentile@10", "popularity_percentile@20")
    assert STRATA == (
        "all",
        "repeat",
        "new",
        "cold_user",
        "cold_item",
        "length_1-5",
        "length_6-10",
        "length_11-20",
        "length_21-50",
        "length_51-100",
        "length_101-up",
    )
    assert full_name("test", "full", "all", "ndcg@10") == "test/full/all/ndcg@10"
    assert tracked("test/full/all/ndcg@10/low") == "test/full/all/ndcg_at_10/low"


def test_mlflow_takes_them_all() -> None:
    from mlflow.utils.validation import _validate_metric_name

    for stratum in STRATA:
        for metric in (*RANK_METRICS, *LIST_METRICS, "targets", "users"):
            _validate_metric_name(tracked(full_name("validation", "sampled", stratum, metric)) + "/high")
