"""What a network has learned so far: its losses and its test error, off the clock."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.data import Dataset

from .tasks import LOSSES
from .training import Training

EVALUATION_BATCH = 50  # a pass that stays in the cache is twice as fast as one of 500 images


def progress(training: Training, seen: Dataset, test: Dataset) -> dict[str, float]:
    """Of `Point`: the training loss on ``seen``, the loss and the error on ``test``."""
    training_loss, _ = mean_loss_and_error(training.model, training.task.loss, seen)
    test_loss, test_error = mean_loss_and_error(training.model, training.task.loss, test)
    return {"training_loss": training_loss, "test_loss": test_loss, "test_error": test_error}


def mean_loss_and_error(model: nn.Module, loss: str, data: Dataset) -> tuple[float, float]:
    """In evaluation mode; the model is left in the mode in which it was found."""
    functions, device = LOSSES[loss], next(model.parameters()).device
    was_training = model.training
    model.eval()
    losses, errors = 0.0, 0.0
    with torch.inference_mode():
        for index in torch.arange(len(data)).split(EVALUATION_BATCH):
            inputs, targets = (part.to(device) for part in data.__getitems__(index.tolist()))
            outputs = model(inputs)
            losses += functions.losses(outputs, targets).double().sum().item()
            errors += functions.errors(outputs, targets).double().sum().item()
    model.train(was_training)
    return losses / len(data), errors / len(data)
