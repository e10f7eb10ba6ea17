#define _POSIX_C_SOURCE 200809L /* setenv */
#include "vae_ort.h"

#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef HAVE_ORT_HEADER
#include <onnxruntime_c_api.h>
#else
#include "ort_abi.h"
#endif

enum { MAX_AXES = 9 }; /* a batch, and the eight axes of latents that a bundle may have */

struct vae_ort {
    OrtEnv *env;
    OrtSession *session;
    OrtMemoryInfo *memory;
    OrtValue *inputs[2], *output; /* views of the buffers below */
    float *z, *image;
    int64_t label, z_shape[MAX_AXES], shape[MAX_AXES]; /* with the batch axis, 1 */
    size_t z_axes, dim, count;                         /* dim: numbers in z; count: inputs */
};

static const OrtApi *api;
static char reason[512];
static const char not_ours[] = "not a decoder that vae-export wrote";

static int failed(const char *what)
{
    snprintf(reason, sizeof reason, "%s", what);
    return 1;
}

/* Return 1 and keep the message if a call of onnxruntime failed. */
static int wrong(OrtStatus *status)
{
    if (!status)
        return 0;
    failed(api->GetErrorMessage(status));
    api->ReleaseStatus(status);
    return 1;
}

static int load_library(void)
{
    if (api)
        return 0;
    const char *path = getenv("VAE_ORT_LIBRARY");
    setenv("ORT_DISABLE_TELEMETRY", "1", 1); /* read once, when the library is loaded */
    void *library = dlopen(path ? path : "libonnxruntime.so.1", RTLD_NOW);
    if (!library)
        return failed(dlerror());
    const OrtApiBase *(*base)(void);
    *(void **)&base = dlsym(library, "OrtGetApiBase"); /* the cast that POSIX recommends */
    if (!base)
        return failed("no OrtGetApiBase in the library");
    api = base()->GetApi(ORT_API_VERSION);
    return api ? 0 : failed("this onnxruntime is older than the header");
}

/* Get the shape of input or output `i` for one row. Return 0 on success. */
static int get_shape(vae_ort *m, int output, size_t i, int64_t *sizes, size_t *axes)
{
    OrtTypeInfo *type = NULL;
    const OrtTensorTypeAndShapeInfo *tensor = NULL;
    if (wrong(output ? api->SessionGetOutputTypeInfo(m->session, i, &type)
                     : api->SessionGetInputTypeInfo(m->session, i, &type)))
        return 1;
    int bad = wrong(api->CastTypeInfoToTensorInfo(type, &tensor)) || !tensor ||
              wrong(api->GetDimensionsCount(tensor, axes)) || *axes < 2 || *axes > MAX_AXES ||
              wrong(api->GetDimensions(tensor, sizes, *axes));
    api->ReleaseTypeInfo(type);
    sizes[0] = 1; /* a negative number in the graph: any batch */
    for (size_t j = 1; j < *axes && !bad; j++)
        bad = sizes[j] <= 0;
    return bad && failed(not_ours);
}

static int open_session(vae_ort *m, const char *graph)
{
    OrtSessionOptions *options = NULL;
    if (wrong(api->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "vae", &m->env)) ||
        wrong(api->CreateSessionOptions(&options)))
        return 1;
    /* One thread is the fastest for small graphs. */
    const int bad = wrong(api->SetIntraOpNumThreads(options, 1)) ||
                    wrong(api->CreateSession(m->env, graph, options, &m->session));
    api->ReleaseSessionOptions(options);
    size_t image_axes = 0;
    if (bad || wrong(api->SessionGetInputCount(m->session, &m->count)) ||
        (m->count > 2 && failed(not_ours)) || get_shape(m, 0, 0, m->z_shape, &m->z_axes) ||
        get_shape(m, 1, 0, m->shape, &image_axes) || (image_axes != 4 && failed(not_ours)))
        return 1;
    m->dim = 1;
    for (size_t j = 1; j < m->z_axes; j++)
        m->dim *= (size_t)m->z_shape[j];
    return 0;
}

static int make_tensors(vae_ort *m)
{
    const int64_t one[] = {1};
    const size_t z_bytes = m->dim * sizeof *m->z;
    const size_t image_bytes = vae_ort_pixels(m) * sizeof *m->image;
    m->z = calloc(1, z_bytes);
    m->image = calloc(1, image_bytes);
    if (!m->z || !m->image)
        return failed("out of memory");
    return wrong(api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &m->memory)) ||
           wrong(api->CreateTensorWithDataAsOrtValue(m->memory, m->z, z_bytes, m->z_shape,
                                                     m->z_axes, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
                                                     &m->inputs[0])) ||
           wrong(api->CreateTensorWithDataAsOrtValue(m->memory, &m->label, sizeof m->label, one, 1,
                                                     ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64,
                                                     &m->inputs[1])) ||
           wrong(api->CreateTensorWithDataAsOrtValue(m->memory, m->image, image_bytes, m->shape, 4,
                                                     ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
                                                     &m->output));
}

vae_ort *vae_ort_open(const char *graph)
{
    if (load_library())
        return NULL;
    vae_ort *m = calloc(1, sizeof *m);
    if (!m)
        return failed("out of memory"), NULL;
    if (open_session(m, graph) || make_tensors(m)) {
        vae_ort_close(m);
        return NULL;
    }
    return m;
}

void vae_ort_close(vae_ort *m)
{
    if (!m)
        return;
    api->ReleaseValue(m->inputs[0]);
    api->ReleaseValue(m->inputs[1]);
    api->ReleaseValue(m->output);
    api->ReleaseMemoryInfo(m->memory);
    api->ReleaseSession(m->session);
    api->ReleaseEnv(m->env);
    free(m->z);
    free(m->image);
    free(m);
}

size_t vae_ort_latent_dim(const vae_ort *m) { return m->dim; }
size_t vae_ort_pixels(const vae_ort *m) { return (size_t)(m->shape[1] * m->shape[2] * m->shape[3]); }
const int64_t *vae_ort_shape(const vae_ort *m) { return m->shape + 1; }
int vae_ort_takes_label(const vae_ort *m) { return m->count == 2; }

int vae_ort_decode(vae_ort *m, const float *z, int64_t label, float *image)
{
    static const char *const names[] = {"z", "label"}, *const outputs[] = {"image"};
    for (size_t i = 0; i < m->dim; i++)
        if (!isfinite(z[i]))
            return failed("latents: not finite");
    /* onnxruntime refuses a label that is too large, but counts a negative one from the end. */
    if (m->count == 2 && label < 0)
        return failed("label: expected 0 or more");
    memcpy(m->z, z, m->dim * sizeof *z);
    m->label = label;
    if (wrong(api->Run(m->session, NULL, names, (const OrtValue *const *)m->inputs, m->count,
                       outputs, 1, &m->output)))
        return 1;
    memcpy(image, m->image, vae_ort_pixels(m) * sizeof *image);
    return 0;
}

const char *vae_ort_error(void) { return reason; }
