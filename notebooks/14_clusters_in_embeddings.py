# %% [markdown]
# # 14 · Clusters in embeddings
#
# What has a network learned to tell apart, and does it notice a kind that nobody told it of? Afterwards you can take the
# layers below the last one as an embedding, find clusters in it that are as many as they are, look at them in two dimensions
# and in all of them, and see where such a picture misleads.
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/jaxdeep/jaxdeep/blob/main/notebooks/14_clusters_in_embeddings.ipynb)

# %%
import importlib.util
import os
import platform
import subprocess
import sys

if importlib.util.find_spec("jaxdeep") is None:  # in Colab: about half a minute
    source = "jaxdeep[datasets,plot] @ git+https://github.com/jaxdeep/jaxdeep"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", source, "plotly>=6"], check=True)

# What is compiled is kept for the next start on this machine; JAX_ENABLE_COMPILATION_CACHE=0 turns it off.
folder = os.path.expanduser(f"~/.cache/jaxdeep/compiled/notebooks-{platform.node()}")
kept = {
    "JAX_COMPILATION_CACHE_DIR": folder,
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
for name, value in kept.items():
    os.environ.setdefault(name, value)

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import plotly.graph_objects as go
import plotly.io
from sklearn.cluster import HDBSCAN
from sklearn.manifold import TSNE
from sklearn.metrics import adjusted_rand_score

import jaxdeep as jd

train, validation, test = jd.datasets.digits()
plt.rcParams.update({"figure.dpi": 80, "figure.constrained_layout.use": True})
plotly.io.renderers.default = "colab" if "google.colab" in sys.modules else "plotly_mimetype"

# %% [markdown]
# ## A network that has never seen a zero
#
# All zeros are taken out of the training set. The network learns the other nine digits; its last hidden layer, 32 numbers
# between −1 and 1, is the embedding. `jd.transfer.take_layers` makes a model of the layers up to it, with the same arrays.


# %%
def embedded_without(digit, images):
    """Embeddings of images by a network that was trained on all digits but one, and its accuracy."""
    model = jd.nn.serial(
        flatten=jd.nn.flatten(),
        hidden=jd.nn.dense(100, activation=jax.nn.relu),
        embedding=jd.nn.dense(32, activation=jnp.tanh),
        drop=jd.nn.dropout(0.3),
        logits=jd.nn.dense(10),
    )
    (x, y), (xv, yv) = ((x[y != digit], y[y != digit]) for x, y in (train, validation))
    result = jd.fit(
        model,
        (x, y),
        validation=(xv, yv),
        loss=jd.losses.softmax_cross_entropy,
        metrics={"accuracy": jd.metrics.accuracy},
        optimizer=jd.optimizers.adam(1e-3),
        epochs=20,
        batch_size=32,
        key=jax.random.key(0),
        progress=False,
    )
    lower = jd.transfer.take_layers(
        model, result.params, result.state, ["flatten", "hidden", "embedding"]
    )
    return np.asarray(lower[0].apply(*lower[1:], images)[0]), result.history["val_accuracy"][-1]


images, digits = (np.concatenate(parts) for parts in zip(validation, test))
embeddings, accuracy = embedded_without(0, images)
print(
    f"accuracy on the nine digits: {accuracy:.3f}; {len(images)} images, embeddings {embeddings.shape}"
)

# %% [markdown]
# ## Clusters
#
# HDBSCAN (Campello and others, 2013) needs no number of clusters. It looks for groups that stay dense over the widest range of
# distances, and what belongs to none is *noise*, label −1. It gets the embeddings of images that were in no training
# set, zeros among them, and no labels. Labels serve to judge: the adjusted Rand index of clusters and digits is 1 if
# they agree but for names, and about 0 by chance.


# %%
def clusters_in(features):
    return HDBSCAN(min_cluster_size=12, min_samples=3, copy=True).fit(features).labels_


def described(name, labels, digit):
    inside = labels >= 0
    rand = adjusted_rand_score(digits[inside], labels[inside])
    own = [((labels == k) & (digits == digit)).sum() for k in range(labels.max() + 1)]
    largest = int(np.argmax(own))
    print(
        f"{name:22} {labels.max() + 1:2} clusters, {1 - inside.mean():4.0%} noise, Rand index {rand:.2f}; "
        f"of {(digits == digit).sum()} images of {digit}, {own[largest]} are in a cluster of {(labels == largest).sum()}"
    )
    return rand


clusters = clusters_in(embeddings)
by_network = described("embeddings", clusters, 0)
by_pixels = described("pixels", clusters_in(images.reshape(len(images), -1)), 0)
assert by_network > by_pixels

# %% [markdown]
# Ten clusters, though the network was trained on nine digits: the zeros are one of their own. They stand apart among the
# pixels, too; but there is more noise there, and clusters mix other digits.
#
# ## Two views
#
# t-SNE (van der Maaten and Hinton, 2008) puts near what is near in 32 dimensions. Distances between its islands and
# their sizes mean nothing, so the clusters were found in the embedding and not in the picture. Parallel coordinates show
# dimensions as they are: a line is an image, an axis a number of the embedding. Below are the eight that tell the
# clusters apart best, by the share of their variance that lies between clusters. That picture is alive in the
# notebook: drag along an axis to choose lines.

# %%
plane = TSNE(init="pca", random_state=0, n_jobs=1).fit_transform(embeddings)
figure, axes = plt.subplots(1, 2, figsize=(11, 4.5))
axes[0].scatter(*plane[clusters < 0].T, c="lightgrey", s=12, label="noise")
axes[0].scatter(*plane[clusters >= 0].T, c=clusters[clusters >= 0], cmap="tab10", s=12)
axes[0].set_title("clusters, found without labels")
for digit in range(10):
    axes[1].scatter(*plane[digits == digit].T, s=12, color=f"C{digit}", label=str(digit))
    # the middle of a digit's points is a point of it, also where they are two islands
    of_digit = plane[digits == digit]
    middle = of_digit[np.linalg.norm(of_digit - np.median(of_digit, axis=0), axis=1).argmin()]
    axes[1].annotate(str(digit), middle, fontsize=14, weight="bold")
axes[1].set_title("digits; no zero was in the training set")
for ax in axes:
    ax.set(xticks=[], yticks=[])
plt.show()

# %%
inside = clusters >= 0
groups = [embeddings[clusters == k] for k in range(clusters.max() + 1)]
between = np.var(
    np.repeat([g.mean(axis=0) for g in groups], [len(g) for g in groups], axis=0), axis=0
) / np.var(embeddings[inside], axis=0)
best = np.argsort(-between)[:8]
lines = go.Parcoords(
    line={
        "color": clusters[inside],
        "colorscale": "Turbo",
        "showscale": True,
        "colorbar": {"title": "cluster"},
    },
    dimensions=[
        {"label": f"unit {unit}", "values": embeddings[inside, unit], "range": [-1, 1]} for unit in best
    ],
)
go.Figure(lines, layout={"height": 380, "margin": {"l": 50, "r": 30, "t": 50, "b": 30}}).show()

# %% [markdown]
# ## Where it misleads
#
# The zero is an easy digit. The same with eights left out:

# %%
without_eight, accuracy = embedded_without(8, images)
rand = described("embeddings without 8", clusters_in(without_eight), 8)
nearest = digits[digits != 8][
    np.array(
        [
            np.linalg.norm(without_eight[digits != 8] - e, axis=1).argmin()
            for e in without_eight[digits == 8]
        ]
    )
]
print(
    "nearest digit of an eight: " + ", ".join(f"{d}: {(nearest == d).sum()}" for d in np.unique(nearest))
)

# %% [markdown]
# No cluster is the eights': they lie among digits they resemble. A network keeps what its task needs, and nobody asked it
# to tell eights from ones. So a cluster of its own says that something is there; no cluster says little. To find what
# a network has not seen, also ask how sure it is: `jd.uncertainty.mc_dropout` and notebook 07.
#
# What changes the answer most are `min_cluster_size`, below which a group is noise, and the layer: earlier ones keep more of
# the image, later ones more of the task. Try both before you name a cluster.
