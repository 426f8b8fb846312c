"""Encoders see the whole picture, and encode each picture independently."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ad_jax.envs import raycast
from ad_jax.envs.watermaze import _random_pose, pose_features
from ad_jax.models.images import ENCODERS, ImageEncoder

FEATURES = {"pooled": 128, "conv": 256, "resnet": 256}


@functools.cache
def encoder(kind):
    module = ImageEncoder(kind)
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 24, 32, 3), dtype=np.uint8)
    params = jax.jit(module.init)(jax.random.key(0), images)
    return module, params, images, jax.jit(functools.partial(module.apply, params))(images)


@pytest.mark.parametrize("kind", ENCODERS)
def test_pictures_become_vectors(kind):
    _, _, _, features = encoder(kind)
    assert features.shape == (2, 3, FEATURES[kind]) and features.dtype == jnp.float32
    assert (features >= 0).all() and (features.std((0, 1)) > 0).any()


@pytest.mark.parametrize("kind", ENCODERS)
def test_a_picture_is_encoded_by_itself(kind):
    module, params, images, features = encoder(kind)
    alone = jax.jit(module.apply)(params, images[1, 2])
    np.testing.assert_allclose(alone, features[1, 2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ENCODERS)
def test_every_part_of_the_picture_matters(kind):
    module, params, images, _ = encoder(kind)
    apply = jax.jit(lambda image: module.apply(params, image))
    before = apply(images[0, 0])
    for row, column in ((0, 0), (0, 24), (16, 0), (16, 24), (8, 12)):
        changed = images[0, 0].copy()
        changed[row : row + 8, column : column + 8] = (
            255 - changed[row : row + 8, column : column + 8]
        )
        assert np.abs(apply(changed) - before).max() > 1e-4, (row, column)


def test_pooled_pictures_are_standardised_means_of_cells():
    _, params, images, features = encoder("pooled")
    means = images.reshape(6, 12, 2, 16, 2, 3).mean((2, 4)) / 255
    means = (means - means.mean(0)) / (means.std(0) + 0.03)
    want = means.reshape(2, 3, -1)
    for name in ("hidden_0", "hidden_1", "out"):
        layer = params["params"][name]
        want = np.maximum(want @ layer["kernel"] + layer["bias"], 0)
    np.testing.assert_allclose(features, want, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("size", [(5, 7), (20, 31), (200, 180)])
def test_pooled_takes_pictures_of_any_size(size):
    module = ImageEncoder("pooled")
    images = np.random.default_rng(0).integers(0, 256, (4, *size, 1), dtype=np.uint8)
    params = module.init(jax.random.key(0), images)
    cells = params["params"]["mean"].shape[:2]
    assert 9 <= min(cells) <= 18 or cells == size
    np.testing.assert_allclose(params["params"]["mean"].mean(), images.mean() / 255, rtol=0.02)


def test_what_pooled_knows_of_usual_pictures_is_not_trained():
    module, params, images, _ = encoder("pooled")
    grads = jax.grad(lambda p: module.apply(p, images).sum())(params)["params"]
    assert not grads["mean"].any() and not grads["deviation"].any()
    assert grads["out"]["kernel"].any()


def test_only_the_paper_s_encoder_drops_and_only_in_training():
    for kind in ENCODERS:
        module, params, images, features = encoder(kind)
        train = lambda images, m=module, p=params: m.apply(
            p, images, train=True, rngs={"dropout": jax.random.key(1)}
        )
        dropped = jax.jit(train)(images)
        assert np.allclose(dropped, features, atol=1e-4) == (kind != "conv")


def test_the_encoder_for_cpus_can_tell_where_it_is_in_watermaze():
    """Trained for seconds to predict poses, it errs by less than a platform's radius, 79 units."""
    poses = lambda key, number: jax.vmap(lambda k: _random_pose(k, 600.0))(
        jax.random.split(key, number)
    )
    frames, shown = jax.jit(raycast.render), jax.vmap(pose_features)

    class Told(nn.Module):
        @nn.compact
        def __call__(self, images):
            return nn.Dense(4)(ImageEncoder("pooled")(images))

    model = Told()
    params = model.init(jax.random.key(0), frames(poses(jax.random.key(1), 1024)))
    steps = 800
    optimizer = optax.adam(optax.cosine_decay_schedule(2e-3, steps))

    def loss(params, poses):
        return ((model.apply(params, frames(poses)) - shown(poses)) ** 2).mean()

    def step(carry, key):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params, poses(key, 128)), state)
        return (optax.apply_updates(params, updates), state), None

    keys = jax.random.split(jax.random.key(2), steps)
    train = jax.jit(lambda carry: jax.lax.scan(step, carry, keys)[0])
    params, _ = train((params, optimizer.init(params)))
    test = poses(jax.random.key(3), 1024)
    error = (model.apply(params, frames(test)) - shown(test))[:, :2] * raycast.APOTHEM
    assert np.median(np.linalg.norm(error, axis=-1)) < 65
