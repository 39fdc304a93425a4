"""A Keras network as an estimator of scikit-learn, for `benchmarks.cross_validation`."""

import keras
from sklearn.base import BaseEstimator, ClassifierMixin

from benchmarks.cross_validation import BATCH, EPOCHS, UNITS


class Network(ClassifierMixin, BaseEstimator):
    def __init__(self, rate=1e-3, seed=0):
        self.rate, self.seed = rate, seed

    def fit(self, x, y):
        keras.utils.set_random_seed(self.seed)
        self.classes_ = range(10)
        he, dense = {"kernel_initializer": "he_normal"}, keras.layers.Dense
        relu = {"activation": "relu", **he}
        self.model_ = keras.Sequential([dense(UNITS, **relu), dense(UNITS, **relu), dense(10, **he)])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.model_.compile(optimizer=keras.optimizers.Adam(self.rate), loss=loss)
        self.model_.fit(x, y, epochs=EPOCHS, batch_size=BATCH, verbose=0)
        return self

    def predict(self, x):
        return self.model_.predict(x, batch_size=len(x), verbose=0).argmax(-1)
