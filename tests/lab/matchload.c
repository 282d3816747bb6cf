// SPDX-License-Identifier: GPL-2.0-only
/*
 * matchload - make pci_match_device() run as often as a kernel lets us
 *
 *   matchload newid DRIVER N    N times a 7-field write to new_id and its
 *                               remove_id: each pair makes the kernel match
 *                               every PCI device against DRIVER, once
 *   matchload probe ADDRESS N   N writes to drivers_probe for a device without
 *                               driver: each makes the kernel match it against
 *                               every PCI driver, once
 *
 * So the number of calls is known beforehand: N x devices, N x drivers.
 *
 * Seven fields skip new_id's own check for duplicates, which calls
 * pci_match_device() too: a write is exactly one driver_attach(). Removing the id
 * at once keeps the list at one entry, so call N costs what call 1 did.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NEW_ID "dead beef ffffffff ffffffff 0 0 0"
#define REMOVE_ID "dead beef"

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static int open_attribute(const char *path)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0) {
		perror(path);
		exit(1);
	}
	return fd;
}

static int open_driver_attribute(const char *driver, const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "/sys/bus/pci/drivers/%s/%s", driver, name);
	return open_attribute(path);
}

static void put(int fd, const char *text)
{
	size_t len = strlen(text);

	if (pwrite(fd, text, len, 0) != (ssize_t)len) {
		fprintf(stderr, "write \"%s\": %s\n", text, strerror(errno));
		exit(1);
	}
}

static double load_new_id(const char *driver, long n)
{
	int add = open_driver_attribute(driver, "new_id");
	int del = open_driver_attribute(driver, "remove_id");
	double start = now();

	while (n--) {
		put(add, NEW_ID);
		put(del, REMOVE_ID);
	}
	return now() - start;
}

static double load_probe(const char *address, long n)
{
	int probe = open_attribute("/sys/bus/pci/drivers_probe");
	double start = now();

	while (n--)
		put(probe, address);
	return now() - start;
}

int main(int argc, char **argv)
{
	double seconds;
	long n = 0;

	if (argc == 4)
		n = strtol(argv[3], NULL, 10);
	if (n > 0 && !strcmp(argv[1], "newid")) {
		seconds = load_new_id(argv[2], n);
	} else if (n > 0 && !strcmp(argv[1], "probe")) {
		seconds = load_probe(argv[2], n);
	} else {
		fprintf(stderr, "usage: matchload newid DRIVER N\n"
				"       matchload probe ADDRESS N\n");
		return 2;
	}
	printf("%ld writes in %.3f s\n", n, seconds);
	return 0;
}
