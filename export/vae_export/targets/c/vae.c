/* Check arguments and decode; sample latents with the random numbers that Python uses:
 * Philox-4x64-10 (Salmon et al. 2011), and normals by Box and Muller (1958). */
#include "vae.h"

#include <math.h>

#define WORDS 4 /* per Philox block */
#define EVEN_DIM (VAE_LATENT_DIM + VAE_LATENT_DIM % 2)
#define BLOCKS ((1 + EVEN_DIM + WORDS - 1) / WORDS)
#define TWO_PI 6.283185307179586476925286766559

/* Decode one row. Defined in the generated decoder.c. */
#if VAE_CLASSES
void vae_graph(const float z[1] VAE_LATENT_SHAPE, const int64_t label[1],
               float image[1][VAE_CHANNELS][VAE_HEIGHT][VAE_WIDTH]);
#else
void vae_graph(const float z[1] VAE_LATENT_SHAPE,
               float image[1][VAE_CHANNELS][VAE_HEIGHT][VAE_WIDTH]);
#endif

static int label_fits(int label) { return label >= VAE_NO_LABEL && label < VAE_CLASSES; }

int vae_decode(const float z[VAE_LATENT_DIM], int label, float image[VAE_PIXELS])
{
    if (!label_fits(label))
        return VAE_BAD_LABEL;
    for (int i = 0; i < VAE_LATENT_DIM; i++)
        if (!isfinite(z[i]))
            return VAE_BAD_NUMBER;
    const float(*row) VAE_LATENT_SHAPE = (const float(*) VAE_LATENT_SHAPE)z;
    float(*out)[VAE_CHANNELS][VAE_HEIGHT][VAE_WIDTH] =
        (float(*)[VAE_CHANNELS][VAE_HEIGHT][VAE_WIDTH])image;
    image[0] = NAN; /* the generated code returns early, without an error, if malloc fails */
#if VAE_CLASSES
    const int64_t index = label == VAE_NO_LABEL ? VAE_CLASSES : label;
    vae_graph(row, &index, out);
#else
    vae_graph(row, out);
#endif
    return isnan(image[0]) ? VAE_NO_MEMORY : VAE_OK;
}

/* Return the high 64 bits of a product; C99 has no 128-bit integers. */
static uint64_t mulhi(uint64_t a, uint64_t b)
{
    const uint64_t a0 = (uint32_t)a, a1 = a >> 32, b0 = (uint32_t)b, b1 = b >> 32;
    const uint64_t low = a0 * b0, mid = a1 * b0 + (low >> 32), cross = a0 * b1 + (uint32_t)mid;
    return a1 * b1 + (mid >> 32) + (cross >> 32);
}

static void philox(uint64_t seed, uint64_t counter, uint64_t out[WORDS])
{
    const uint64_t m0 = 0xD2E7470EE14C6C93u, m1 = 0xCA5A826395121157u;
    uint64_t k0 = seed, k1 = 0, c0 = counter, c1 = 0, c2 = 0, c3 = 0;
    for (int round = 0; round < 10; round++) {
        const uint64_t high0 = mulhi(m0, c0), high1 = mulhi(m1, c2), low0 = m0 * c0;
        c0 = high1 ^ c1 ^ k0;
        c1 = m1 * c2;
        c2 = high0 ^ c3 ^ k1;
        c3 = low0;
        k0 += 0x9E3779B97F4A7C15u;
        k1 += 0xBB67AE8584CAA73Bu;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

static double unit(uint64_t word) { return (double)(word >> 11) * 0x1p-53; }

#if VAE_PRIOR == VAE_PRIOR_MIXTURE
/* Return mean + L·eps of the component that `first` selects; L is packed row by row. */
static void from_mixture(double first, int label, const double eps[], double z[VAE_COORDINATES])
{
    const int row = VAE_PRIOR_ROWS == 1 || label == VAE_NO_LABEL ? VAE_PRIOR_ROWS - 1 : label;
    double total = 0, cumulative = 0;
    int component = 0;
    for (int m = 0; m < VAE_COMPONENTS; m++)
        total += vae_weights[row][m];
    while (component < VAE_COMPONENTS - 1) {
        cumulative += vae_weights[row][component];
        if (first < cumulative / total)
            break;
        component++;
    }
    const double *factor = vae_cholesky[row][component];
    for (int i = 0; i < VAE_COORDINATES; i++) {
        z[i] = vae_mean[row][component][i];
        for (int j = 0; j <= i; j++)
            z[i] += *factor++ * eps[j];
    }
}
#endif

#if VAE_LOW_RANK
/* Sample coordinates along the directions, and noise orthogonal to them. */
static void from_directions(double first, int label, const double eps[], double z[VAE_LATENT_DIM])
{
    double projected[VAE_COORDINATES] = {0}, coordinates[VAE_COORDINATES];
    for (int k = 0; k < VAE_COORDINATES; k++)
        for (int i = 0; i < VAE_LATENT_DIM; i++)
            projected[k] += vae_directions[k][i] * eps[i];
    from_mixture(first, label, projected, coordinates);
    for (int i = 0; i < VAE_LATENT_DIM; i++) {
        double along = 0, rest = eps[i];
        for (int k = 0; k < VAE_COORDINATES; k++) {
            along += coordinates[k] * vae_directions[k][i];
            rest -= projected[k] * vae_directions[k][i];
        }
        z[i] = vae_center[i] + along + vae_residual[i] * rest;
    }
}
#endif

int vae_sample_latents(uint64_t seed, uint64_t index, int label, double temperature,
                       float z[VAE_LATENT_DIM])
{
    uint64_t words[BLOCKS * WORDS];
    if (!label_fits(label))
        return VAE_BAD_LABEL;
    if (!(temperature >= 0 && isfinite(temperature)))
        return VAE_BAD_NUMBER;
    for (int block = 0; block < BLOCKS; block++) /* the counter starts at 1 */
        philox(seed, index * BLOCKS + (uint64_t)block + 1, words + block * WORDS);
#if VAE_PRIOR == VAE_PRIOR_UNIFORM
    for (int i = 0; i < VAE_LATENT_DIM; i++) {
        const double middle = (vae_low[i] + vae_high[i]) / 2, half = (vae_high[i] - vae_low[i]) / 2;
        z[i] = (float)(middle + temperature * half * (2 * unit(words[1 + i]) - 1));
    }
#else
    double eps[EVEN_DIM];
    for (int i = 0; i < EVEN_DIM; i += 2) {
        const double radius = temperature * sqrt(-2 * log1p(-unit(words[1 + i])));
        const double angle = TWO_PI * unit(words[2 + i]);
        eps[i] = radius * cos(angle);
        eps[i + 1] = radius * sin(angle);
    }
    double *latents = eps;
#if VAE_PRIOR == VAE_PRIOR_MIXTURE
    double mixed[VAE_LATENT_DIM];
    latents = mixed;
#if VAE_LOW_RANK
    from_directions(unit(words[0]), label, eps, mixed);
#else
    from_mixture(unit(words[0]), label, eps, mixed);
#endif
#endif
    for (int i = 0; i < VAE_LATENT_DIM; i++)
        z[i] = (float)latents[i];
#endif
    return VAE_OK;
}
