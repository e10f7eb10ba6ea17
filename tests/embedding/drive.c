/* Decode latents row by row in a C host and print the milliseconds of one decode.
 *
 *     drive LATENTS.f32 LABELS.i64 IMAGES.f32 [GRAPH.onnx]
 *
 * With -DHOST_ORT the host is examples/c_api, which needs the graph; otherwise it is the vae.h of
 * `vae-export --c`.
 */
#define _POSIX_C_SOURCE 200809L
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define RUNS 200

#ifdef HOST_ORT
#include "vae_ort.h"
static vae_ort *model;
static size_t dim, pixels;
static void start(const char *graph)
{
    model = vae_ort_open(graph);
    if (!model) {
        fprintf(stderr, "%s\n", vae_ort_error());
        exit(1);
    }
    dim = vae_ort_latent_dim(model);
    pixels = vae_ort_pixels(model);
}
static int decode(const float *z, int64_t label, float *image)
{
    return vae_ort_decode(model, z, label, image);
}
#else
#include "vae.h"
static const size_t dim = VAE_LATENT_DIM, pixels = VAE_PIXELS;
static void start(const char *graph) { (void)graph; }
static int decode(const float *z, int64_t label, float *image)
{
    /* In golden vectors, the index after the last class means "no label". */
    return vae_decode(z, label == VAE_CLASSES ? VAE_NO_LABEL : (int)label, image);
}
#endif

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    start(argc > 4 ? argv[4] : NULL);
    FILE *latents = fopen(argv[1], "rb"), *labels = fopen(argv[2], "rb"), *out = fopen(argv[3], "wb");
    float *z = malloc(dim * sizeof *z), *image = malloc(pixels * sizeof *image);
    int64_t label = 0;
    if (!latents || !labels || !out || !z || !image)
        return 3;
    while (fread(z, sizeof *z, dim, latents) == dim && fread(&label, sizeof label, 1, labels) == 1)
        if (decode(z, label, image) || fwrite(image, sizeof *image, pixels, out) != pixels)
            return 4;
    static double times[RUNS];
    for (int i = 0; i < RUNS; i++) {
        const double begin = now();
        decode(z, label, image);
        times[i] = now() - begin;
    }
    qsort(times, RUNS, sizeof *times, compare);
    printf("%.6f\n", times[RUNS / 2]);
    return fclose(out);
}
