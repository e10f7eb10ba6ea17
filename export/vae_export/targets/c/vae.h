/* One decoder in plain C: no library but libm, no file, no thread, no global state.
 *
 *     float z[VAE_LATENT_DIM], image[VAE_PIXELS];
 *     vae_draw(0, 0, 3, 1.0, z);      // seed 0, its first code, label 3: as Python's seed=0
 *     vae_decode(z, 3, image);        // [C][H][W], each pixel in [0, 1]
 */
#ifndef VAE_H
#define VAE_H

#include <stdint.h>

#include "model.h"

#define VAE_PIXELS (VAE_CHANNELS * VAE_HEIGHT * VAE_WIDTH)
#define VAE_NO_LABEL (-1)

/* What the functions return; 0 is success. */
enum { VAE_OK = 0, VAE_BAD_LABEL = 1, VAE_BAD_CODE = 2, VAE_NO_MEMORY = 3 };

/* Draw code `index` of the endless sequence that belongs to `seed`; as in Python it depends on
 * these two alone. `label` is 0 to VAE_CLASSES - 1, or VAE_NO_LABEL; `temperature` scales the
 * spread around each mean, 1 is the fitted prior. */
int vae_draw(uint64_t seed, uint64_t index, int label, double temperature, float z[VAE_LATENT_DIM]);

/* Decode one code to image[C][H][W]. Codes that are not finite are refused. */
int vae_decode(const float z[VAE_LATENT_DIM], int label, float image[VAE_PIXELS]);

#endif
