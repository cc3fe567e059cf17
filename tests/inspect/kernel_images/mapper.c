/* Maps memory for a device through VFIO: pages of 4K, 2M and 1G, read-only and write-only, at low and high IOVAs,
 * with holes. Prints where each piece lies, by its own pagemap: "vfio: IOVA PA SIZE RIGHTS". Then makes the file
 * /mapped, and never ends. */
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MAP_HUGE_SHIFT
#define MAP_HUGE_SHIFT 26
#endif

static int container, pagemap;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t physical(const char *at)
{
	uint64_t entry = 0;

	if (pread(pagemap, &entry, 8, (uintptr_t)at / 4096 * 8) != 8)
		fail("pagemap");
	return (entry & ((1ULL << 55) - 1)) * 4096;
}

/* Map `size` bytes in pages of 2^lg2 (12: plain ones) at an IOVA. */
static void map(uint64_t iova, uint64_t size, int lg2, unsigned int rights)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE;
	struct vfio_iommu_type1_dma_map wanted = {
		.argsz = sizeof(wanted), .flags = rights, .iova = iova, .size = size,
	};
	char *memory;

	if (lg2 > 12)
		flags |= MAP_HUGETLB | lg2 << MAP_HUGE_SHIFT;
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, -1, 0);
	if (memory == MAP_FAILED) {
		printf("vfio: no memory in pages of 2^%d\n", lg2);
		return;
	}
	memset(memory, 1, size);
	wanted.vaddr = (uintptr_t)memory;
	if (ioctl(container, VFIO_IOMMU_MAP_DMA, &wanted)) {
		printf("vfio: 0x%llx is not mapped\n", (unsigned long long)iova);
		return;
	}
	for (uint64_t at = 0; at < size; at += 1ULL << lg2)
		printf("vfio: 0x%llx 0x%llx 0x%llx %s\n", (unsigned long long)(iova + at),
		       (unsigned long long)physical(memory + at), 1ULL << lg2,
		       rights == 3 ? "RW" : rights == 1 ? "R-" : "-W");
}

int main(int count, char **arguments)
{
	int group;

	if (count < 2)
		return 2;
	container = open("/dev/vfio/vfio", O_RDWR);
	group = open(arguments[1], O_RDWR);
	pagemap = open("/proc/self/pagemap", O_RDONLY);
	if (container < 0 || group < 0 || pagemap < 0)
		fail("open");
	if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) || ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU))
		fail("vfio");
	map(0x100000, 16 * 4096, 12, 3);
	map(0x200000, 7 * 4096, 12, 1);
	map(0x300000, 5 * 4096, 12, 2);
	map(0x10000000, 8 << 20, 21, 3);
	map(0x20200000, 2 << 20, 21, 1);
	map(0x20600000, 2 << 20, 21, 2);
	map(0x80000000, 1 << 30, 30, 3);
	map(0x4000000000, 4 << 20, 21, 3);
	map(0x4040001000, 3 * 4096, 12, 3);
	fflush(stdout);
	close(open("/mapped", O_CREAT | O_WRONLY, 0644));
	pause();
	return 0;
}
