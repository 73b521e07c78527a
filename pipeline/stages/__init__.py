"""One module per stage, one public function each; what a stage says of itself is a model in ``results``."""
