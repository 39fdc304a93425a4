"""A PyTorch network as an estimator of scikit-learn, for `benchmarks.cross_validation`."""

import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from torch import nn

from benchmarks.contenders.torch_loop import initialised
from benchmarks.cross_validation import BATCH, EPOCHS, UNITS


class Network(ClassifierMixin, BaseEstimator):
    def __init__(self, rate=1e-3, seed=0):
        self.rate, self.seed = rate, seed

    def fit(self, x, y):
        torch.set_num_threads(1)  # the processes share the cores
        torch.manual_seed(self.seed)
        self.classes_ = range(10)
        layers = (nn.Linear(64, UNITS), nn.ReLU(), nn.Linear(UNITS, UNITS), nn.ReLU())
        self.model_ = initialised(nn.Sequential(*layers, nn.Linear(UNITS, 10)), "plain")
        optimizer = torch.optim.Adam(self.model_.parameters(), lr=self.rate, fused=True)
        x, y = torch.from_numpy(x), torch.from_numpy(y).long()
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(x)).split(BATCH):
                optimizer.zero_grad(set_to_none=True)
                nn.functional.cross_entropy(self.model_(x[rows]), y[rows]).backward()
                optimizer.step()
        return self

    def predict(self, x):
        with torch.no_grad():
            return self.model_(torch.from_numpy(x)).argmax(-1).numpy()
