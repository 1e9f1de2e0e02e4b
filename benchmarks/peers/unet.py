"""The U-Net of diffusers, with RadiT's embedding of the variables."""

from collections.abc import Sequence

from torch import Tensor, nn

from causalcxr.graph.variables import Variable
from causalcxr.radit.conditioning import Conditioner
from causalcxr.radit.transformer import RadiTConfig

__all__ = ["UNet"]


class UNet(nn.Module):
    """Map a noisy image, a time and the variables to an image.

    Args:
        config: The size of the images; its other fields are not used.
        variables: The parents.
        widths: Channels of the stages.
    """

    def __init__(
        self,
        config: RadiTConfig,
        variables: Sequence[Variable],
        widths: tuple[int, ...] = (32, 48, 64, 128),
    ) -> None:
        super().__init__()
        from diffusers import UNet2DModel

        self.config = config
        self.unet = UNet2DModel(
            sample_size=config.size[0],
            in_channels=1,
            out_channels=1,
            layers_per_block=1,
            block_out_channels=widths,
            norm_num_groups=8,
            attention_head_dim=32,
            down_block_types=(*("DownBlock2D",) * (len(widths) - 1), "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", *("UpBlock2D",) * (len(widths) - 1)),
            class_embed_type="identity",
        )
        self.conditioner = Conditioner(variables, 4 * widths[0])

    def embed_condition(self, columns: dict[str, Tensor], rows: int) -> Tensor:
        """Embed the variables, (B, 1 + variables, width)."""
        return self.conditioner(columns, rows)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        condition: Tensor | None = None,
        *,
        columns: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """Return the output for x (B, 1, H, W) at times t (B,) in [0, 1]."""
        if condition is None:
            condition = self.embed_condition(columns or {}, len(x))
        return self.unet(x, 1000 * t, class_labels=condition.sum(1)).sample
