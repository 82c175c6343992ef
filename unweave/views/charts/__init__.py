"""Kinds of charts, drawn from labelled results. What a chart is about, its title included, is said by its caller."""
