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
 *   matchload race-override DRIVER ADDRESS N
 *   matchload race-ids DRIVER ADDRESS ID N
 *                               N times give the device to the driver, by
 *                               driver_override or by an ID as "1234 11e8", and
 *                               take it back, while another process writes to
 *                               bind and unbind as fast as it can. bind matches
 *                               without the device's lock, so they race
 *
 * So the number of calls is known beforehand: N x devices, N x drivers.
 *
 * Seven fields skip new_id's own check for duplicates, which calls
 * pci_match_device() too: a write is exactly one driver_attach(). Removing the id
 * at once keeps the list at one entry, so call N costs what call 1 did.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
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

/* Whether there is something to bind or unbind is what the race is about. */
static void try_to_put(int fd, const char *text)
{
	if (pwrite(fd, text, strlen(text), 0) < 0 && errno != ENODEV &&
	    errno != EBUSY && errno != EINVAL) {
		fprintf(stderr, "write \"%s\": %s\n", text, strerror(errno));
		exit(1);
	}
}

static double race(const char *driver, const char *address, int give,
		   const char *given, int take, const char *taken, long n)
{
	int bind = open_driver_attribute(driver, "bind");
	int unbind = open_driver_attribute(driver, "unbind");
	pid_t binder = fork();
	double start = now(), seconds;

	if (!binder) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;) {
			try_to_put(bind, address);
			try_to_put(unbind, address);
		}
	}
	while (n--) {
		put(give, given);
		put(take, taken);
	}
	seconds = now() - start;
	if (kill(binder, SIGKILL) || waitpid(binder, NULL, 0) != binder) {
		perror("the binder");
		exit(1);
	}
	try_to_put(unbind, address);
	return seconds;
}

static double race_override(const char *driver, const char *address, long n)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path),
		 "/sys/bus/pci/devices/%s/driver_override", address);
	fd = open_attribute(path);
	return race(driver, address, fd, driver, fd, "\n", n);
}

static double race_ids(const char *driver, const char *address, const char *id,
		       long n)
{
	int add = open_driver_attribute(driver, "new_id");
	int del = open_driver_attribute(driver, "remove_id");
	char whole[128];

	snprintf(whole, sizeof(whole), "%s ffffffff ffffffff 0 0 0", id);
	return race(driver, address, add, whole, del, id, n);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	double seconds;
	long n = 0;

	if (argc > 3)
		n = strtol(argv[argc - 1], NULL, 10);
	if (n > 0 && argc == 4 && !strcmp(what, "newid")) {
		seconds = load_new_id(argv[2], n);
	} else if (n > 0 && argc == 4 && !strcmp(what, "probe")) {
		seconds = load_probe(argv[2], n);
	} else if (n > 0 && argc == 5 && !strcmp(what, "race-override")) {
		seconds = race_override(argv[2], argv[3], n);
	} else if (n > 0 && argc == 6 && !strcmp(what, "race-ids")) {
		seconds = race_ids(argv[2], argv[3], argv[4], n);
	} else {
		fprintf(stderr, "usage: matchload newid DRIVER N\n"
				"       matchload probe ADDRESS N\n"
				"       matchload race-override DRIVER ADDRESS N\n"
				"       matchload race-ids DRIVER ADDRESS ID N\n");
		return 2;
	}
	printf("%ld writes in %.3f s\n", n, seconds);
	return 0;
}
