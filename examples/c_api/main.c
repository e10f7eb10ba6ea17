/* vae_ort GRAPH.onnx LABEL LATENTS.f32 OUT: decode the latents of one image, native float32.
 * OUT is a PGM, PPM or, of images with transparency, a PAM. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "vae_ort.h"

static int fail(const char *where, const char *what)
{
    fprintf(stderr, "error: %s: %s\n", where, what);
    return 3;
}

static int write_image(const char *path, const float *image, const int64_t *shape)
{
    FILE *file = fopen(path, "wb");
    if (!file)
        return fail(path, "cannot be written");
    const int channels = (int)shape[0], height = (int)shape[1], width = (int)shape[2];
    if (channels == 1 || channels == 3)
        fprintf(file, "P%d\n%d %d\n255\n", channels == 1 ? 5 : 6, width, height);
    else
        fprintf(file, "P7\nWIDTH %d\nHEIGHT %d\nDEPTH %d\nMAXVAL 255\nTUPLTYPE %s\nENDHDR\n",
                width, height, channels, channels == 2 ? "GRAYSCALE_ALPHA" : "RGB_ALPHA");
    const int64_t plane = shape[1] * shape[2];
    for (int64_t i = 0; i < plane; i++)
        for (int64_t c = 0; c < shape[0]; c++)
            fputc((int)lrintf(image[c * plane + i] * 255), file);
    return fclose(file) ? fail(path, "cannot be written") : 0;
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: %s GRAPH.onnx LABEL LATENTS.f32 OUT\n", argv[0]);
        return 2;
    }
    char *end;
    const long long label = strtoll(argv[2], &end, 10);
    if (end == argv[2] || *end)
        return fail(argv[2], "expected an integer label");
    vae_ort *model = vae_ort_open(argv[1]);
    if (!model)
        return fail(argv[1], vae_ort_error());
    const size_t dim = vae_ort_latent_dim(model);
    float *z = malloc(dim * sizeof *z), *image = malloc(vae_ort_pixels(model) * sizeof *image);
    FILE *latents = fopen(argv[3], "rb");
    int status = 0;
    if (!z || !image || !latents || fread(z, sizeof *z, dim, latents) != dim)
        status = fail(argv[3], "cannot be read as the latents of one image");
    else if (vae_ort_decode(model, z, label, image))
        status = fail(argv[1], vae_ort_error());
    else
        status = write_image(argv[4], image, vae_ort_shape(model));
    if (latents)
        fclose(latents);
    free(z);
    free(image);
    vae_ort_close(model);
    return status;
}
