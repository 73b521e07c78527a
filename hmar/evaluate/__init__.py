"""How models are judged: full and sampled ranking, strata, intervals, paired comparison."""
