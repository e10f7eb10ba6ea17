/* The part of onnxruntime's C API that decoding needs, for machines without its header.
 *
 * OrtApi is a table of functions that only grows at its end, so these offsets are valid for every
 * onnxruntime with API version 11 (release 1.11) or newer. To use the real header (Debian:
 * libonnxruntime-dev; or the release archives), build with `make ORT_INCLUDE=FOLDER`.
 */
#ifndef ORT_ABI_H
#define ORT_ABI_H

#include <stddef.h>
#include <stdint.h>

#define ORT_API_VERSION 11

typedef struct OrtEnv OrtEnv;
typedef struct OrtStatus OrtStatus;
typedef struct OrtSession OrtSession;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtRunOptions OrtRunOptions;
typedef struct OrtMemoryInfo OrtMemoryInfo;
typedef struct OrtTypeInfo OrtTypeInfo;
typedef struct OrtTensorTypeAndShapeInfo OrtTensorTypeAndShapeInfo;
typedef struct OrtValue OrtValue;

enum { ORT_LOGGING_LEVEL_ERROR = 3 };
enum { ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT = 1, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 = 7 };
enum { OrtMemTypeDefault = 0, OrtArenaAllocator = 1 };

typedef struct OrtApi {
    void *skip0[2];
    const char *(*GetErrorMessage)(const OrtStatus *);
    OrtStatus *(*CreateEnv)(int level, const char *id, OrtEnv **);
    void *skip4[3];
    OrtStatus *(*CreateSession)(const OrtEnv *, const char *path, const OrtSessionOptions *,
                                OrtSession **);
    void *skip8[1];
    OrtStatus *(*Run)(OrtSession *, const OrtRunOptions *, const char *const *input_names,
                      const OrtValue *const *inputs, size_t, const char *const *output_names,
                      size_t, OrtValue **outputs);
    OrtStatus *(*CreateSessionOptions)(OrtSessionOptions **);
    void *skip11[13];
    OrtStatus *(*SetIntraOpNumThreads)(OrtSessionOptions *, int);
    void *skip25[5];
    OrtStatus *(*SessionGetInputCount)(const OrtSession *, size_t *);
    void *skip31[2];
    OrtStatus *(*SessionGetInputTypeInfo)(const OrtSession *, size_t, OrtTypeInfo **);
    OrtStatus *(*SessionGetOutputTypeInfo)(const OrtSession *, size_t, OrtTypeInfo **);
    void *skip35[14];
    OrtStatus *(*CreateTensorWithDataAsOrtValue)(const OrtMemoryInfo *, void *, size_t bytes,
                                                 const int64_t *shape, size_t, int type,
                                                 OrtValue **);
    void *skip50[5];
    OrtStatus *(*CastTypeInfoToTensorInfo)(const OrtTypeInfo *,
                                           const OrtTensorTypeAndShapeInfo **);
    void *skip56[5];
    OrtStatus *(*GetDimensionsCount)(const OrtTensorTypeAndShapeInfo *, size_t *);
    OrtStatus *(*GetDimensions)(const OrtTensorTypeAndShapeInfo *, int64_t *, size_t);
    void *skip63[6];
    OrtStatus *(*CreateCpuMemoryInfo)(int allocator, int memory, OrtMemoryInfo **);
    void *skip70[22];
    void (*ReleaseEnv)(OrtEnv *);
    void (*ReleaseStatus)(OrtStatus *);
    void (*ReleaseMemoryInfo)(OrtMemoryInfo *);
    void (*ReleaseSession)(OrtSession *);
    void (*ReleaseValue)(OrtValue *);
    void *skip97[1];
    void (*ReleaseTypeInfo)(OrtTypeInfo *);
    void *skip99[1];
    void (*ReleaseSessionOptions)(OrtSessionOptions *);
} OrtApi;

typedef struct OrtApiBase {
    const OrtApi *(*GetApi)(uint32_t version);
    const char *(*GetVersionString)(void);
} OrtApiBase;

#endif
