"""Encoders of pictures: a picture becomes one vector."""

import flax.linen as nn
import jax
import jax.numpy as jnp

ENCODERS = ("pooled", "conv", "resnet")
_DROPOUT = 0.2
_CELLS = 9  # of "pooled", at least so many along the shorter side
_MIN_DEVIATION = 0.03  # added to a cell's deviation, so that noise stays small; 1 is white


class ImageEncoder(nn.Module):
    """From uint8 pictures to vectors.

    "pooled" standardises its cells by their mean and deviation over the pictures that it is
    initialised with; both then stay fixed. Without this, what all pictures of an environment have
    in common would hide the small differences between them. So it must be initialised with many
    different pictures.

    Attributes:
      kind: "pooled", light enough for a CPU: means over square cells, nine of them or more
        along the shorter side, and layers of 256, 256 and 128 (a single layer of 128, trained to
        predict the position in Watermaze, errs by more than the size of a platform);
        "conv", the paper's (Table 3), three times conv 128 of 5×5 with stride 2, norm, ReLU,
        max-pool 2, dropout 0.2, then linear 256, with group norm where the paper has batch norm,
        so that a window does not depend on others in its batch; "resnet", the source's (Table 5),
        IMPALA's three stages of 32, 64 and 64 channels (Espeholt et al., arXiv:1802.01561).
      dtype: of the computation.
    """

    kind: str = "pooled"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool = False) -> jax.Array:
        """Encodes pictures.

        Args:
          image: uint8 [..., height, width, channels].
          train: apply dropout, with the random key "dropout".

        Returns:
          dtype [..., features], not negative.
        """
        lead = image.shape[:-3]
        x = image.reshape(-1, *image.shape[-3:])
        if self.kind == "pooled":
            x = self._pooled(x)
        else:
            layers = {"conv": self._conv, "resnet": self._resnet}
            x = layers[self.kind](x.astype(self.dtype) / 255, train)
        return x.reshape(*lead, -1)

    def _pooled(self, x: jax.Array) -> jax.Array:
        size = max(1, min(x.shape[1:3]) // _CELLS)
        x = jnp.pad(x, ((0, 0), (0, -x.shape[1] % size), (0, -x.shape[2] % size), (0, 0)), "edge")
        # Sums of bytes are three times as fast as a mean of floats on a CPU.
        x = x.astype(jnp.uint16 if size <= 16 else jnp.uint32)
        x = sum(x[:, i::size] for i in range(size))
        x = sum(x[:, :, i::size] for i in range(size))
        x = x.astype(jnp.float32) / (255 * size**2)
        mean = jax.lax.stop_gradient(self.param("mean", lambda _: x.mean(0)))
        deviation = jax.lax.stop_gradient(self.param("deviation", lambda _: x.std(0)))
        x = ((x - mean) / (deviation + _MIN_DEVIATION)).astype(self.dtype)
        x = x.reshape(x.shape[0], -1)
        for i in range(2):
            x = nn.relu(nn.Dense(256, dtype=self.dtype, name=f"hidden_{i}")(x))
        return self._dense(x, 128)

    def _conv(self, x: jax.Array, train: bool) -> jax.Array:
        for i in range(3):
            x = nn.Conv(128, (5, 5), (2, 2), dtype=self.dtype, name=f"conv_{i}")(x)
            x = nn.relu(nn.GroupNorm(32, dtype=self.dtype, name=f"norm_{i}")(x))
            x = nn.max_pool(x, (2, 2), (2, 2), "SAME")
            x = nn.Dropout(_DROPOUT)(x, deterministic=not train)
        return self._dense(x, 256)

    def _resnet(self, x: jax.Array, train: bool) -> jax.Array:
        del train
        for i, channels in enumerate((32, 64, 64)):
            conv = lambda name, channels=channels: nn.Conv(
                channels, (3, 3), dtype=self.dtype, name=name
            )
            x = nn.max_pool(conv(f"conv_{i}")(x), (3, 3), (2, 2), "SAME")
            for j in range(2):
                h = conv(f"residual_{i}_{j}_0")(nn.relu(x))
                x = x + conv(f"residual_{i}_{j}_1")(nn.relu(h))
        return self._dense(nn.relu(x), 256)

    def _dense(self, x: jax.Array, width: int) -> jax.Array:
        x = x.reshape(x.shape[0], -1)
        return nn.relu(nn.Dense(width, dtype=self.dtype, name="out")(x))
