/* A driver's NVML for eight GPUs that are not there: what nvidia-ml-py calls, answered from a table.
 *
 * Types and numbers are those of nvml.h. GPU 2 is throttled, 3 is lost, 4 has half a PCIe link, 5 is a consumer card,
 * 6 has a link down and a low power limit, 7 keeps what it knows to itself. -DOLD_DRIVER leaves out what an old driver
 * does not export.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, GPU_IS_LOST = 15 };
enum { THROTTLED = 2, LOST = 3, NARROW = 4, CONSUMER = 5, DEGRADED = 6, SILENT = 7 };
enum { GPUS = 8, LINKS = 18, KIB_A_LINK = 1000 };

struct gpu {
    int index;
};
typedef struct gpu *gpu_t;
typedef int ret_t;

static struct gpu gpus[GPUS] = {{0}, {1}, {2}, {3}, {4}, {5}, {6}, {7}};

static ret_t put(unsigned int *to, unsigned int value) {
    *to = value;
    return SUCCESS;
}

static ret_t text(char *to, unsigned int size, const char *value) {
    snprintf(to, size, "%s", value);
    return SUCCESS;
}

#define UNLESS_LOST(gpu) \
    if ((gpu)->index == LOST) return GPU_IS_LOST
#define NOT_ON_CONSUMER(gpu) \
    UNLESS_LOST(gpu);        \
    if ((gpu)->index == CONSUMER) return NOT_SUPPORTED

ret_t nvmlInitWithFlags(unsigned int flags) { return flags ? INVALID_ARGUMENT : SUCCESS; }
ret_t nvmlInit_v2(void) { return SUCCESS; }
ret_t nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(ret_t ret) {
    (void)ret;
    return "an error that nvidia-ml-py has no words for";
}

ret_t nvmlSystemGetDriverVersion(char *to, unsigned int size) { return text(to, size, "580.65.06"); }
ret_t nvmlSystemGetNVMLVersion(char *to, unsigned int size) { return text(to, size, "13.580.65.06"); }
ret_t nvmlSystemGetCudaDriverVersion(int *to) {
    *to = 13010;
    return SUCCESS;
}

ret_t nvmlDeviceGetCount_v2(unsigned int *to) { return put(to, GPUS); }
ret_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, gpu_t *to) {
    if (index >= GPUS) return INVALID_ARGUMENT;
    *to = &gpus[index];
    return SUCCESS;
}
ret_t nvmlDeviceGetHandleByUUID(const char *uuid, gpu_t *to) {
    unsigned int index;
    if (sscanf(uuid, "GPU-00000000-0000-0000-0000-%012u", &index) != 1 &&
        sscanf(uuid, "MIG-99999999-0000-0000-0000-%012u", &index) != 1)
        return NOT_FOUND;
    return nvmlDeviceGetHandleByIndex_v2(index, to);
}
ret_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(gpu_t instance, gpu_t *to) {
    *to = instance;
    return SUCCESS;
}

ret_t nvmlDeviceGetIndex(gpu_t gpu, unsigned int *to) {
    UNLESS_LOST(gpu);
    return put(to, gpu->index);
}
ret_t nvmlDeviceGetName(gpu_t gpu, char *to, unsigned int size) {
    UNLESS_LOST(gpu);
    return text(to, size, gpu->index == CONSUMER ? "NVIDIA GeForce RTX 4090" : "NVIDIA H100 80GB HBM3");
}
ret_t nvmlDeviceGetUUID(gpu_t gpu, char *to, unsigned int size) {
    UNLESS_LOST(gpu);
    snprintf(to, size, "GPU-00000000-0000-0000-0000-%012d", gpu->index);
    return SUCCESS;
}
ret_t nvmlDeviceGetSerial(gpu_t gpu, char *to, unsigned int size) {
    NOT_ON_CONSUMER(gpu);
    return text(to, size, "1650000000000");
}
ret_t nvmlDeviceGetVbiosVersion(gpu_t gpu, char *to, unsigned int size) {
    UNLESS_LOST(gpu);
    return text(to, size, "96.00.74.00.01");
}

struct pci_info {
    char bus_id_legacy[16];
    unsigned int domain, bus, device, pci_device_id, pci_subsystem_id;
    char bus_id[32];
};
static ret_t pci(struct pci_info *to, int index) {
    memset(to, 0, sizeof *to);
    snprintf(to->bus_id, sizeof to->bus_id, "00000000:%02X:00.0", 0x10 * (index + 1));
    return SUCCESS;
}
ret_t nvmlDeviceGetPciInfo_v3(gpu_t gpu, struct pci_info *to) {
    UNLESS_LOST(gpu);
    return pci(to, gpu->index);
}

ret_t nvmlDeviceGetClockInfo(gpu_t gpu, unsigned int clock, unsigned int *to) {
    UNLESS_LOST(gpu);
    if (clock == 2) return put(to, 2619);
    return put(to, gpu->index == THROTTLED ? 1215 : 1965);
}
ret_t nvmlDeviceGetMaxClockInfo(gpu_t gpu, unsigned int clock, unsigned int *to) {
    UNLESS_LOST(gpu);
    return put(to, clock == 2 ? 2619 : 1980);
}
ret_t nvmlDeviceGetPowerUsage(gpu_t gpu, unsigned int *to) {
    UNLESS_LOST(gpu);
    return put(to, gpu->index == SILENT ? UINT32_MAX : 412345);
}
ret_t nvmlDeviceGetEnforcedPowerLimit(gpu_t gpu, unsigned int *to) {
    UNLESS_LOST(gpu);
    return put(to, gpu->index == DEGRADED ? 500000 : 700000);
}
ret_t nvmlDeviceGetPowerManagementDefaultLimit(gpu_t gpu, unsigned int *to) {
    UNLESS_LOST(gpu);
    return put(to, 700000);
}
ret_t nvmlDeviceGetTotalEnergyConsumption(gpu_t gpu, unsigned long long *to) {
    UNLESS_LOST(gpu);
    *to = 123456789;
    return SUCCESS;
}
/* By the names of before, which drivers still export. */
static unsigned int celsius(gpu_t gpu) { return gpu->index == THROTTLED ? 88 : 41; }
ret_t nvmlDeviceGetTemperature(gpu_t gpu, unsigned int sensor, unsigned int *to) {
    UNLESS_LOST(gpu);
    return sensor ? INVALID_ARGUMENT : put(to, celsius(gpu));
}
ret_t nvmlDeviceGetCurrentClocksThrottleReasons(gpu_t gpu, unsigned long long *to) {
    UNLESS_LOST(gpu);
    *to = 0x1 | 0x4;
    return SUCCESS;
}
#ifndef OLD_DRIVER
struct temperature {
    unsigned int version, sensor;
    int celsius;
};
ret_t nvmlDeviceGetTemperatureV(gpu_t gpu, struct temperature *to) {
    UNLESS_LOST(gpu);
    if (to->version != (sizeof *to | 1 << 24) || to->sensor) return INVALID_ARGUMENT;
    to->celsius = celsius(gpu);
    return SUCCESS;
}
ret_t nvmlDeviceGetCurrentClocksEventReasons(gpu_t gpu, unsigned long long *to) {
    UNLESS_LOST(gpu);
    if (gpu->index == SILENT) return 999;
    *to = gpu->index == THROTTLED ? 0x1 | 0x20 : 0x1;
    return SUCCESS;
}
struct violation {
    unsigned long long reference, time;
};
static int violation_calls;
ret_t nvmlDeviceGetViolationStatus(gpu_t gpu, unsigned int policy, struct violation *to) {
    NOT_ON_CONSUMER(gpu);
    to->reference = 1;
    to->time = 1000 + policy;
    /* Each call finds 25 ms more than the one before. */
    if (gpu->index == THROTTLED && policy == 1) to->time += 25000000ull * violation_calls++;
    return SUCCESS;
}
ret_t nvmlDeviceGetMigMode(gpu_t gpu, unsigned int *now, unsigned int *pending) {
    NOT_ON_CONSUMER(gpu);
    *pending = 0;
    return put(now, gpu->index == SILENT);
}
#endif
ret_t nvmlDeviceGetTemperatureThreshold(gpu_t gpu, unsigned int which, unsigned int *to) {
    UNLESS_LOST(gpu);
    return which == 1 ? put(to, 87) : NOT_SUPPORTED;
}

ret_t nvmlDeviceGetCurrPcieLinkGeneration(gpu_t gpu, unsigned int *to) {
    UNLESS_LOST(gpu);
    return put(to, gpu->index == NARROW ? 3 : 5);
}
ret_t nvmlDeviceGetMaxPcieLinkGeneration(gpu_t gpu, unsigned int *to) {
    UNLESS_LOST(gpu);
    return put(to, 5);
}
ret_t nvmlDeviceGetCurrPcieLinkWidth(gpu_t gpu, unsigned int *to) {
    UNLESS_LOST(gpu);
    return put(to, gpu->index == NARROW ? 8 : 16);
}
ret_t nvmlDeviceGetMaxPcieLinkWidth(gpu_t gpu, unsigned int *to) {
    UNLESS_LOST(gpu);
    return put(to, 16);
}
ret_t nvmlDeviceGetPcieReplayCounter(gpu_t gpu, unsigned int *to) {
    UNLESS_LOST(gpu);
    return put(to, gpu->index == NARROW ? 12 : 0);
}

ret_t nvmlDeviceGetEccMode(gpu_t gpu, unsigned int *now, unsigned int *pending) {
    NOT_ON_CONSUMER(gpu);
    *pending = 1;
    return put(now, gpu->index != DEGRADED);
}
ret_t nvmlDeviceGetTotalEccErrors(gpu_t gpu, unsigned int kind, unsigned int counter, unsigned long long *to) {
    NOT_ON_CONSUMER(gpu);
    if (counter != 0) return INVALID_ARGUMENT;
    *to = gpu->index == SILENT ? (kind == 1 ? 2 : 7) : 0;
    return SUCCESS;
}
ret_t nvmlDeviceGetPersistenceMode(gpu_t gpu, unsigned int *to) {
    UNLESS_LOST(gpu);
    return put(to, 1);
}
ret_t nvmlDeviceGetComputeMode(gpu_t gpu, unsigned int *to) {
    UNLESS_LOST(gpu);
    return put(to, 3);
}
ret_t nvmlDeviceGetCpuAffinity(gpu_t gpu, unsigned int words, unsigned long *to) {
    UNLESS_LOST(gpu);
    memset(to, 0, words * sizeof *to);
    to[0] = gpu->index < 4 ? 0x3 : 0xc;
    return SUCCESS;
}
ret_t nvmlDeviceGetMemoryAffinity(gpu_t gpu, unsigned int words, unsigned long *to, unsigned int scope) {
    UNLESS_LOST(gpu);
    if (words != 1 || scope != 0) return INVALID_ARGUMENT;
    to[0] = gpu->index == CONSUMER ? 0 : gpu->index < 4 ? 0x1 : 0x2;
    return SUCCESS;
}
ret_t nvmlDeviceGetTopologyCommonAncestor(gpu_t one, gpu_t other, unsigned int *to) {
    UNLESS_LOST(one);
    UNLESS_LOST(other);
    return put(to, one->index / 4 == other->index / 4 ? 40 : 50);
}

static ret_t has_link(gpu_t gpu, unsigned int link) {
    NOT_ON_CONSUMER(gpu);
    return link < LINKS ? SUCCESS : INVALID_ARGUMENT;
}
static int is_up(gpu_t gpu, unsigned int link) { return !(gpu->index == DEGRADED && link == 5); }
ret_t nvmlDeviceGetNvLinkState(gpu_t gpu, unsigned int link, unsigned int *to) {
    ret_t ret = has_link(gpu, link);
    return ret ? ret : put(to, is_up(gpu, link));
}
ret_t nvmlDeviceGetNvLinkVersion(gpu_t gpu, unsigned int link, unsigned int *to) {
    ret_t ret = has_link(gpu, link);
    return ret ? ret : put(to, 6);
}
ret_t nvmlDeviceGetNvLinkErrorCounter(gpu_t gpu, unsigned int link, unsigned int counter, unsigned long long *to) {
    ret_t ret = has_link(gpu, link);
    if (counter > 2) return INVALID_ARGUMENT;
    /* One replay on link 0, two recoveries, three CRC errors: six. */
    *to = link == 0 ? counter + 1 : 0;
    return ret;
}
ret_t nvmlDeviceGetNvLinkRemoteDeviceType(gpu_t gpu, unsigned int link, unsigned int *to) {
    ret_t ret = has_link(gpu, link);
    /* GPUs 0 and 1 are bridged by their last two links, all other links go to switches. */
    return ret ? ret : put(to, gpu->index < 2 && link >= LINKS - 2 ? 0 : 2);
}
ret_t nvmlDeviceGetNvLinkRemotePciInfo_v2(gpu_t gpu, unsigned int link, struct pci_info *to) {
    ret_t ret = has_link(gpu, link);
    return ret ? ret : pci(to, 1 - gpu->index);
}

struct field {
    unsigned int id, scope;
    long long timestamp, latency;
    unsigned int type;
    ret_t ret;
    unsigned long long value;
};
static void fill(gpu_t gpu, struct field *field) {
    field->ret = SUCCESS;
    if (field->id == 82) { /* memory temperature; a card without a sensor answers 0 */
        field->type = 1;
        field->value = gpu->index == CONSUMER ? 0 : 47;
    } else if (field->id == 138 || field->id == 139) { /* KiB sent, received */
        field->type = 3;
        field->value = (field->id == 138 ? 1 : 2) * KIB_A_LINK + field->scope;
        if (gpu->index == SILENT && field->scope == 3) field->ret = NOT_SUPPORTED;
        if (!is_up(gpu, field->scope)) field->ret = INVALID_ARGUMENT;
    } else {
        field->ret = NOT_SUPPORTED;
    }
}
ret_t nvmlDeviceGetFieldValues(gpu_t gpu, int count, struct field *fields) {
    UNLESS_LOST(gpu);
    for (int i = 0; i < count; i++) fill(gpu, &fields[i]);
    return SUCCESS;
}
