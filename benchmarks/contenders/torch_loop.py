"""A PyTorch loop: eager or `torch.compile`, Adam fused or not."""

import torch
from torch import nn

from benchmarks.contenders import tell
from benchmarks.contenders.variants import BATCH, DEPTH, DROPOUT, RATE


def network(kind):
    if kind == "deep":
        layers = []
        for features in (784, *[100] * DEPTH):
            layers += [nn.Linear(features, 100), nn.SELU()]
        return nn.Sequential(*layers, nn.Linear(100, 10))
    if kind == "conv":
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding="same"),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding="same"),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * 7 * 7, 10),
        )
    layers = []
    for features in (784, 100, 100):
        layers += [nn.Dropout(DROPOUT)] if kind == "dropout" else []
        layers += [nn.Linear(features, 100)]
        layers += [nn.BatchNorm1d(100)] if kind == "bn" else []
        layers += [nn.ReLU()]
    layers += [nn.Dropout(DROPOUT)] if kind == "dropout" else []
    return nn.Sequential(*layers, nn.Linear(100, 10))


def initialised(model, kind):
    for layer in model:
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            gain = "linear" if kind == "deep" else "relu"  # LeCun's and He's
            nn.init.kaiming_normal_(layer.weight, nonlinearity=gain)
            nn.init.zeros_(layer.bias)
    return model


def train(variant, data, epochs, *, fused=False, compiled=False, rate=RATE):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    x, y = (torch.from_numpy(array).to(device) for array in data)
    x, y = (x.movedim(-1, 1).contiguous() if variant.name == "conv" else x), y.long()
    model = initialised(network(variant.name), variant.name).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate, fused=fused)

    def forward(x, y):
        outputs = model(x)
        return nn.functional.cross_entropy(outputs, y), (outputs.argmax(-1) == y).sum()

    forward = torch.compile(forward) if compiled else forward
    for _ in range(epochs):
        total, right = torch.zeros((), device=device), torch.zeros((), device=device)
        for rows in torch.randperm(len(x), device=device).split(BATCH):
            optimizer.zero_grad(set_to_none=True)
            loss, correct = forward(x[rows], y[rows])
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(rows)
            right += correct
        tell(total / len(x), right / len(x))
