/* Print the digits 0 to 9 in a terminal. */
#include <stdio.h>

#include "vae.h"

int main(void)
{
    float z[VAE_LATENT_DIM], image[VAE_PIXELS];
    for (int label = 0; label < VAE_CLASSES; label++) {
        if (vae_sample_latents(0, 0, label, 0.5, z) || vae_decode(z, label, image))
            return 1;
        for (int y = 0; y < VAE_HEIGHT; y += 2, putchar('\n'))
            for (int x = 0; x < VAE_WIDTH; x++)
                putchar(" .:+#@"[(int)(image[y * VAE_WIDTH + x] * 5.99f)]);
    }
    return 0;
}
