"""Whether a model may be pulled, loaded or chosen: the rules, the facts they judge, the decision."""
