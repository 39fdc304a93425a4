"""The study of `benchmarks.compare_by_hand` in PyTorch, skorch and scikit-learn's searches."""

import joblib
import numpy as np
import torch
from scipy.stats import loguniform
from sklearn.base import clone
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import HalvingRandomSearchCV, PredefinedSplit, RandomizedSearchCV
from skorch import NeuralNetClassifier
from torch import nn, optim


class Network(nn.Sequential):
    def __init__(self, seed=0):
        torch.manual_seed(seed)  # of the order of the data, too
        hidden = []
        for inputs in (64, 100, 100):
            hidden += [nn.Linear(inputs, 100), nn.ReLU()]
            nn.init.kaiming_normal_(hidden[-2].weight, nonlinearity="relu")
            nn.init.zeros_(hidden[-2].bias)
        super().__init__(*hidden, nn.Linear(100, 10))


def one_minus(low, high):
    return 1 - loguniform(low, high).rvs(1000, random_state=0)


CANDIDATES = {
    "sgd": ({"optimizer": optim.SGD}, {"lr": loguniform(1e-3, 10.0)}),
    "nag": (
        {"optimizer": optim.SGD, "optimizer__nesterov": True, "optimizer__momentum": 0.9},
        {"lr": loguniform(1e-4, 1.0), "optimizer__momentum": one_minus(5e-3, 0.5)},
    ),
    "rmsprop": (
        {"optimizer": optim.RMSprop},
        {"lr": loguniform(1e-5, 1e-1), "optimizer__alpha": one_minus(1e-3, 0.5)},
    ),
    "adam": (
        {"optimizer": optim.Adam},
        {
            "lr": loguniform(1e-5, 1e-1),
            "optimizer__betas": [(b1, 0.999) for b1 in one_minus(1e-2, 0.5)],
        },
    ),
}


def accuracy(net, seed, train, test):
    return net.set_params(module__seed=seed).fit(*train).score(*test)


def study(train, validation, test, *, budget, epochs, seeds, seed, halving=False):
    """The test accuracies of each optimizer, and what the answer says."""
    train, validation, test = ((x, y.astype(np.int64)) for x, y in (train, validation, test))
    both = [np.concatenate(parts) for parts in zip(train, validation)]
    fold = PredefinedSplit([-1] * len(train[1]) + [0] * len(validation[1]))
    common = {"scoring": "accuracy", "cv": fold, "refit": False, "n_jobs": -1, "random_state": seed}
    found = {}
    for name, (fixed, space) in CANDIDATES.items():
        net = NeuralNetClassifier(
            Network,
            criterion=nn.CrossEntropyLoss,
            max_epochs=epochs,
            batch_size=32,
            iterator_train__shuffle=True,
            train_split=None,
            verbose=0,
            **fixed,
        )
        if halving:
            resource = {"resource": "max_epochs", "min_resources": 1, "max_resources": epochs}
            search = HalvingRandomSearchCV(net, space, n_candidates=budget, **resource, **common)
        else:
            search = RandomizedSearchCV(net, space, n_iter=budget, **common)
        best = {**search.fit(*both).best_params_, "max_epochs": epochs}  # halving has its last
        run = joblib.delayed(accuracy)
        found[name] = joblib.Parallel(n_jobs=-1)(
            run(clone(net).set_params(**best), 1000 * seed + number, train, test)
            for number in range(seeds)
        )
    means = {name: sum(values) / len(values) for name, values in found.items()}
    best = max(means, key=means.get)
    return found, f"{best} has the best mean, {means[best]:.4f}"
