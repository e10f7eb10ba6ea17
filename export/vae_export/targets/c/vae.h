/* One decoder in plain C. It needs only libm, and no files, threads or global state.
 *
 *     float z[VAE_LATENT_DIM], image[VAE_PIXELS];
 *     vae_sample_latents(0, 0, 3, 1.0, z); // seed 0, index 0, label 3: equals Python's seed=0
 *     vae_decode(z, 3, image);             // [C][H][W], each pixel in [0, 1]
 */
#ifndef VAE_H
#define VAE_H

#include <stdint.h>

#include "model.h"

#define VAE_PIXELS (VAE_CHANNELS * VAE_HEIGHT * VAE_WIDTH)
#define VAE_NO_LABEL (-1)

/* Return codes; 0 is success. */
enum { VAE_OK = 0, VAE_BAD_LABEL = 1, VAE_BAD_NUMBER = 2, VAE_NO_MEMORY = 3 };

/* Sample latents from the prior: element `index` of the infinite sequence that `seed` defines, the
 * same as in Python. `label` is 0 to VAE_CLASSES - 1, or VAE_NO_LABEL. `temperature` scales the
 * spread around each mean; 1 samples the fitted prior. Returns VAE_OK, or VAE_BAD_LABEL or
 * VAE_BAD_NUMBER for an argument out of range. */
int vae_sample_latents(uint64_t seed, uint64_t index, int label, double temperature,
                       float z[VAE_LATENT_DIM]);

/* Decode latents to image[C][H][W] in [0, 1]. Returns VAE_OK, VAE_BAD_LABEL for a label
 * out of range, VAE_BAD_NUMBER for latents that are not finite, or VAE_NO_MEMORY if malloc fails. */
int vae_decode(const float z[VAE_LATENT_DIM], int label, float image[VAE_PIXELS]);

#endif
