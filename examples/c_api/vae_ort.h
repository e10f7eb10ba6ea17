/* A decoder graph run by onnxruntime, which is loaded when the first graph is opened.
 *
 * One code a call; not to be called from two threads with the same model.
 */
#ifndef VAE_ORT_H
#define VAE_ORT_H

#include <stddef.h>
#include <stdint.h>

typedef struct vae_ort vae_ort;

/* Open a decoder.onnx or conditional_decoder.onnx; NULL on failure. The library is the one that the
 * environment variable VAE_ORT_LIBRARY names, else libonnxruntime.so.1 of the system. */
vae_ort *vae_ort_open(const char *graph);
void vae_ort_close(vae_ort *model);

size_t vae_ort_latent_dim(const vae_ort *model);
size_t vae_ort_pixels(const vae_ort *model);          /* C·H·W */
const int64_t *vae_ort_shape(const vae_ort *model);   /* {C, H, W} */
int vae_ort_takes_label(const vae_ort *model);

/* z[D] → image[C][H][W] in [0, 1]. `label` is a class index, the number of classes for "no label",
 * and not read where the graph takes none. 0 on success. */
int vae_ort_decode(vae_ort *model, const float *z, int64_t label, float *image);

/* Why the last call failed, one line. */
const char *vae_ort_error(void);

#endif
