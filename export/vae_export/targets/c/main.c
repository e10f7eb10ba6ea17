/* Command line for vae.h: write images of one label as PGM (grey) or PPM (colour).
 *
 *     ./vae --label 3 --seed 0 -n 8 > threes.pgm      the same images as seed=0 in Python
 *     ./vae --label 3 --latents z.f32 > two.pgm       decode latents from a file of native float32
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vae.h"

#define MAX_IMAGES 64 /* written side by side */

struct options {
    const char *label, *latents;
    unsigned long long seed;
    unsigned long count;
    double temperature;
};

static void fail(const char *what, const char *value)
{
    fprintf(stderr, "error: %s: %s\n", value, what);
    exit(2);
}

static double number(const char *text, double highest)
{
    char *end;
    const double value = strtod(text, &end);
    if (end == text || *end || !(value >= 0 && value <= highest))
        fail("not a number, or out of range", text);
    return value;
}

static struct options parse(int argc, char **argv)
{
    struct options o = {NULL, NULL, 0, 1, 1.0};
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc)
            fail("expected --label, --seed, -n, --temperature or --latents, and a value", argv[i]);
        const char *name = argv[i], *value = argv[i + 1];
        if (!strcmp(name, "--label"))
            o.label = value;
        else if (!strcmp(name, "--latents"))
            o.latents = value;
        else if (!strcmp(name, "-n"))
            o.count = (unsigned long)number(value, MAX_IMAGES);
        else if (!strcmp(name, "--temperature"))
            o.temperature = number(value, 1e6);
        else if (!strcmp(name, "--seed")) {
            char *end;
            errno = 0;
            o.seed = strtoull(value, &end, 10);
            if (errno || end == value || *end || *value == '-')
                fail("expected a seed from 0 to 2**64 - 1", value);
        } else
            fail("unknown option", name);
    }
    return o;
}

/* Find the index of a class by its name or number. NULL means no label. */
static int label_of(const char *text)
{
    if (!text)
        return VAE_NO_LABEL;
#if VAE_CLASSES
    for (int i = 0; i < VAE_CLASSES; i++)
        if (!strcmp(text, vae_class_names[i]))
            return i;
    char *end;
    const long index = strtol(text, &end, 10);
    if (end != text && !*end && index >= 0 && index < VAE_CLASSES)
        return (int)index;
    fail("unknown class", text);
#endif
    fail("this model takes no label", text);
    return VAE_NO_LABEL;
}

static unsigned long read_latents(const char *path, float *z)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        fail(strerror(errno), path);
    const size_t size = VAE_LATENT_DIM * sizeof *z;
    const unsigned long count = fread(z, 1, MAX_IMAGES * size, file) / size;
    const int more = ftell(file) != (long)(count * size) || fgetc(file) != EOF;
    fclose(file);
    if (!count || more)
        fail("expected 1 to 64 complete float32 latents", path);
    return count;
}

static void write_images(const float *images, unsigned long count)
{
    const int colours = VAE_CHANNELS < 3 ? 1 : 3; /* these formats have no alpha */
    printf("P%d\n%lu %d\n255\n", colours == 1 ? 5 : 6, count * VAE_WIDTH, VAE_HEIGHT);
    for (int y = 0; y < VAE_HEIGHT; y++)
        for (unsigned long i = 0; i < count; i++)
            for (int x = 0; x < VAE_WIDTH; x++)
                for (int c = 0; c < colours; c++) {
                    const float *image = images + i * VAE_PIXELS;
                    putchar((int)lrintf(image[(c * VAE_HEIGHT + y) * VAE_WIDTH + x] * 255));
                }
}

int main(int argc, char **argv)
{
    static float z[MAX_IMAGES][VAE_LATENT_DIM], images[MAX_IMAGES][VAE_PIXELS];
    const struct options o = parse(argc, argv);
    const int label = label_of(o.label);
    const unsigned long count = o.latents ? read_latents(o.latents, z[0]) : o.count;
    for (unsigned long i = 0; i < count; i++) {
        if (!o.latents)
            vae_sample_latents(o.seed, i, label, o.temperature, z[i]);
        const int code = vae_decode(z[i], label, images[i]);
        if (code != VAE_OK)
            fail(code == VAE_BAD_NUMBER ? "not finite" : "out of memory", "latents");
    }
    write_images(images[0], count);
    return fflush(stdout) ? 6 : 0;
}
