/* Run a decoder graph with onnxruntime, which is loaded when the first graph is opened.
 *
 * Each call decodes the latents of one image. Do not use a model from two threads at once.
 */
#ifndef VAE_ORT_H
#define VAE_ORT_H

#include <stddef.h>
#include <stdint.h>

typedef struct vae_ort vae_ort;

/* Open a decoder.onnx or conditional_decoder.onnx; NULL on failure. The environment variable
 * VAE_ORT_LIBRARY names the library; the default is the system's libonnxruntime.so.1. */
vae_ort *vae_ort_open(const char *graph);
void vae_ort_close(vae_ort *model);

size_t vae_ort_latent_dim(const vae_ort *model);      /* D: the numbers in one image's latents */
size_t vae_ort_pixels(const vae_ort *model);          /* C·H·W */
const int64_t *vae_ort_shape(const vae_ort *model);   /* {C, H, W} */
int vae_ort_takes_label(const vae_ort *model);

/* Decode z[D], in the order of its axes, to image[C][H][W] in [0, 1]. `label` is a class index, or the number of classes for
 * "no label"; it is ignored if the graph takes none. Returns 0 on success. */
int vae_ort_decode(vae_ort *model, const float *z, int64_t label, float *image);

/* The reason why the last call failed, in one line. */
const char *vae_ort_error(void);

#endif
