"""Public modules that people bring: how each is made, and the options with which it exports.

The weights are random: parity, commands and speed do not depend on training. Each library is
imported only by the function that needs it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SMALL = {
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "block_out_channels": (32, 64),
    "norm_num_groups": 8,
}


@dataclass(frozen=True)
class Case:
    """A public module.

    Attributes:
        name: the class and, in brackets, what was varied.
        library: requirement of the library that has the class, for pip; empty for plain torch.
        make: builds the module.
        image_shape: shape (C, H, W) of its images.
        options: options of `vae_export.export`.
        refused: a part of the error, for a module that no bundle can represent.
        large: whether it runs only with `--large`.
    """

    name: str
    library: str
    make: Callable[[], nn.Module]
    image_shape: tuple[int, int, int] = (3, 32, 32)
    options: dict[str, Any] = field(default_factory=dict)
    refused: str = ""
    large: bool = False


DIFFUSERS, PYTHAE, LIGHTNING = "diffusers==0.42.1", "pythae==0.1.2", "lightning==2.6.6"


def autoencoder_kl(**changes: Any) -> nn.Module:
    from diffusers import AutoencoderKL

    module: nn.Module = AutoencoderKL(**SMALL | {"latent_channels": 4, "sample_size": 32} | changes)
    return module


def plain_attention() -> nn.Module:
    from diffusers.models.attention_processor import AttnProcessor

    module: Any = autoencoder_kl()
    module.set_attn_processor(AttnProcessor())
    return module  # type: ignore[no-any-return]


def stable_diffusion() -> nn.Module:
    """Make the autoencoder of Stable Diffusion: 84 million parameters."""
    return autoencoder_kl(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        norm_num_groups=32,
        sample_size=256,
    )


def autoencoder_tiny() -> nn.Module:
    from diffusers import AutoencoderTiny

    narrow, one = (16, 16, 16), (1, 1, 1)
    module: nn.Module = AutoencoderTiny(
        encoder_block_out_channels=narrow,
        decoder_block_out_channels=narrow,
        num_encoder_blocks=one,
        num_decoder_blocks=one,
    )
    return module


def asymmetric() -> nn.Module:
    from diffusers import AsymmetricAutoencoderKL

    module: nn.Module = AsymmetricAutoencoderKL(
        down_block_types=SMALL["down_block_types"],
        down_block_out_channels=(32, 64),
        up_block_types=SMALL["up_block_types"],
        up_block_out_channels=(32, 64),
        norm_num_groups=8,
    )
    return module


def vq_model() -> nn.Module:
    from diffusers import VQModel

    module: nn.Module = VQModel(**SMALL, latent_channels=4, num_vq_embeddings=32)
    return module


def autoencoder_dc() -> nn.Module:
    from diffusers import AutoencoderDC

    module: nn.Module = AutoencoderDC(
        latent_channels=8,
        encoder_block_types=("ResBlock",) * 3,
        decoder_block_types=("ResBlock",) * 3,
        encoder_block_out_channels=(16, 32, 64),
        decoder_block_out_channels=(16, 32, 64),
        encoder_layers_per_block=(1, 1, 1),
        decoder_layers_per_block=(1, 1, 1),
        encoder_qkv_multiscales=((), (), ()),
        decoder_qkv_multiscales=((), (), ()),
    )
    return module


def from_pythae(name: str, *, convolutional: bool = False) -> Callable[[], nn.Module]:
    """Make a model of pythae with its default networks, or with those for MNIST."""

    def make() -> nn.Module:
        from pythae import models
        from pythae.models.nn.benchmarks import mnist

        shape = (1, 28, 28)
        config = getattr(models, f"{name}_Config" if name == "WAE_MMD" else f"{name}Config")(
            input_dim=shape, latent_dim=16
        )
        if not convolutional:
            module: nn.Module = getattr(models, name)(config)
            return module
        if name == "VQVAE":
            encoder, decoder = mnist.Encoder_ResNet_VQVAE_MNIST, mnist.Decoder_ResNet_VQVAE_MNIST
        else:
            encoder = getattr(mnist, f"Encoder_Conv_{'AE' if name == 'WAE_MMD' else 'VAE'}_MNIST")
            decoder = mnist.Decoder_Conv_AE_MNIST
        return getattr(models, name)(  # type: ignore[no-any-return]
            config, encoder=encoder(config), decoder=decoder(config)
        )

    return make


def lightning_module() -> nn.Module:
    import lightning

    class LitAutoencoder(lightning.LightningModule):
        """A module that keeps its model in an attribute, as Lightning's own examples do."""

        def __init__(self) -> None:
            super().__init__()
            self.vae = FlatVae()

        def forward(self, x: Tensor) -> Any:
            return self.vae(x)

        def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
            return F.binary_cross_entropy(self.vae(batch)[0], batch.flatten(1))

    return LitAutoencoder()


class FlatVae(nn.Module):
    """The layout of PyTorch's example: flattened pixels, and `fc21` and `fc22` for mu, log_var."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc21, self.fc22 = nn.Linear(784, 400), nn.Linear(400, 20), nn.Linear(400, 20)
        self.fc3, self.fc4 = nn.Linear(20, 400), nn.Linear(400, 784)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = F.relu(self.fc1(x))
        return self.fc21(hidden), self.fc22(hidden)

    def reparameterize(self, mu: Tensor, log_var: Tensor) -> Tensor:
        return mu + torch.randn_like(mu) * torch.exp(0.5 * log_var)

    def decode(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.fc4(F.relu(self.fc3(z))))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mu, log_var = self.encode(x.view(-1, 784))
        return self.decode(self.reparameterize(mu, log_var)), mu, log_var


class VisionTransformer(nn.Module):
    """An autoencoder of `nn.TransformerEncoderLayer` over patches of 4×4 pixels."""

    def __init__(self) -> None:
        super().__init__()
        width = 32

        def layers() -> nn.Module:
            layer = nn.TransformerEncoderLayer(width, 4, 64, batch_first=True, norm_first=True)
            return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

        self.patches = nn.Conv2d(3, width, 4, 4)
        self.place = nn.Parameter(torch.randn(1, 64, width) / 10)
        self.encoding, self.decoding = layers(), layers()
        self.latent, self.back = nn.Linear(width, 8), nn.Linear(4, width)
        self.pixels = nn.Linear(width, 48)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.place
        mu, log_var = self.latent(self.encoding(tokens)).chunk(2, -1)
        return mu, log_var

    def decode(self, z: Tensor) -> Tensor:
        pixels = self.pixels(self.decoding(self.back(z) + self.place)).sigmoid()
        grid = pixels.view(-1, 8, 8, 3, 4, 4).permute(0, 3, 1, 4, 2, 5)
        return grid.reshape(-1, 3, 32, 32)

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x)[0])


SIGNED = {"image_range": "signed"}
MNIST = (1, 28, 28)
CASES = (
    Case("AutoencoderKL", DIFFUSERS, autoencoder_kl, options=SIGNED),
    Case("AutoencoderKL (plain attention)", DIFFUSERS, plain_attention, options=SIGNED),
    Case("AutoencoderTiny", DIFFUSERS, autoencoder_tiny,
         options=SIGNED | {"compare_forward": False}),
    Case("AsymmetricAutoencoderKL", DIFFUSERS, asymmetric, options=SIGNED),
    Case("VQModel", DIFFUSERS, vq_model, options=SIGNED),
    Case("AutoencoderDC", DIFFUSERS, autoencoder_dc, options=SIGNED),
    *(
        Case(f"{name} ({'convolutional' if conv else 'default'} networks)", PYTHAE,
             from_pythae(name, convolutional=conv), MNIST,
             refused="quantizer" if name == "VQVAE" else "")
        for name in ("VAE", "BetaVAE", "WAE_MMD", "VQVAE") for conv in (False, True)
    ),
    Case("a LightningModule", LIGHTNING, lightning_module, MNIST),
    Case("PyTorch's example VAE", "", FlatVae, MNIST),
    Case("the same in torch.compile", "", lambda: torch.compile(FlatVae()), MNIST),
    Case("the same in DataParallel", "", lambda: nn.DataParallel(FlatVae()), MNIST),
    Case("a vision transformer", "", VisionTransformer),
    Case("AutoencoderKL (Stable Diffusion)", DIFFUSERS, stable_diffusion, (3, 256, 256), SIGNED,
         large=True),
)  # fmt: skip
