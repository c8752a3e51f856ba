"""Trainings, one a file; a recipe of yours is one more line of `RECIPES`, and imported when it is asked for."""

from __future__ import annotations

from typing import Any

from exprmetric.choices import resolve

RECIPES = {
    "distil": "exprmetric.training.recipes.distil:Distil",
    "default": "exprmetric.training.recipes.default:Default",
    "wsupcon": "exprmetric.training.recipes.wsupcon:WSupConRecipe",
    "classification": "exprmetric.training.recipes.classification:Classification",
    "selfsupervised": "exprmetric.training.recipes.selfsupervised:SelfSupervised",
    "autoencoder": "exprmetric.training.recipes.autoencoder:Autoencoding",
    "contrastive": "exprmetric.training.recipes.contrastive:Contrastive",
    "disentangle": "exprmetric.training.recipes.disentangle:Disentangle",
    "contrawarping": "exprmetric.training.recipes.contrawarping:ContraWarpingRecipe",
    "feenet": "exprmetric.training.recipes.feenet:FEENetRecipe",
}
"""Module and class of each recipe, a `exprmetric.training.recipes.recipe.Recipe`, by its name on the command line."""


def load_recipe(name: str) -> Any:
    """The class of a recipe by its name in `RECIPES`."""
    return resolve(RECIPES[name])
