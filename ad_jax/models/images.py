"""Encoders of pictures: a picture becomes one vector."""

import flax.linen as nn
import jax
import jax.numpy as jnp

ENCODERS = ("pooled", "conv", "resnet")
_DROPOUT = 0.2


class ImageEncoder(nn.Module):
    """From uint8 pictures to vectors.

    Attributes:
      kind: "pooled", means over 4×4 pixels and one layer of 128, light enough for a CPU;
        "conv", the paper's (Table 3), three times conv 128 of 5×5 with stride 2, norm, ReLU,
        max-pool 2, dropout 0.2, then linear 256, with group norm where the paper has batch norm:
        a window then does not depend on those beside it; "resnet", the source's (Table 5),
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
          train: drop, with the random key "dropout".

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
        x = x.astype(jnp.uint16)  # sums of bytes: three times as fast as a mean of floats on a CPU
        x = sum(x[:, i::4] for i in range(4))
        x = sum(x[:, :, i::4] for i in range(4))
        return self._dense(x.astype(self.dtype) / (16 * 255), 128)

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
