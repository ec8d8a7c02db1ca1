"""Fitting the curves of tp.cost.curves to measured rows, and how far off they are on rows kept out of the fit."""
