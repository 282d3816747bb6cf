"""A tool as bcc's own are written: each match a line. It needs Debian's Python."""

from __future__ import annotations

import os
import sys

from bcc import BPF

TEXT = r"""
#include <linux/types.h>
struct event {
    u64 ts, ret; u32 pid, tid, cpu, class; u16 vendor, device, subvendor, subdevice;
    char comm[16], driver[64], address[16], override[128];
};
BPF_PERF_OUTPUT(events);
struct call { u64 drv, dev; };
BPF_HASH(calls, u32, struct call);
BPF_PERCPU_ARRAY(scratch, struct event, 1);

int enter(struct pt_regs *ctx)
{
    u32 tid = bpf_get_current_pid_tgid();
    struct call c = { PT_REGS_PARM1(ctx), PT_REGS_PARM2(ctx) };
    calls.update(&tid, &c);
    return 0;
}

static u64 pointer(u64 at)
{
    u64 value = 0;
    bpf_probe_read_kernel(&value, 8, (void *)at);
    return value;
}

int leave(struct pt_regs *ctx)
{
    u64 id = bpf_get_current_pid_tgid();
    u32 tid = id;
    int zero = 0;
    struct call *c = calls.lookup(&tid);
    struct event *e = scratch.lookup(&zero);
    if (!c || !e)
        return 0;
    e->ts = bpf_ktime_get_ns();
    e->ret = PT_REGS_RC(ctx);
    e->pid = id >> 32;
    e->tid = id;
    e->cpu = bpf_get_smp_processor_id();
    bpf_get_current_comm(e->comm, sizeof(e->comm));
    bpf_probe_read_kernel_str(e->driver, 64, (void *)pointer(c->drv + DRV_NAME));
    bpf_probe_read_kernel_str(e->address, 16, (void *)pointer(c->dev + DEV_NAME));
    bpf_probe_read_kernel(&e->vendor, 8, (void *)(c->dev + DEV_VENDOR));
    bpf_probe_read_kernel(&e->class, 4, (void *)(c->dev + DEV_CLASS));
    e->override[0] = 0;
    bpf_probe_read_kernel_str(e->override, 128, (void *)pointer(c->dev + DEV_OVERRIDE));
    events.perf_submit(ctx, e, sizeof(*e));
    calls.delete(&tid);
    return 0;
}
"""


def count_lost(number: int) -> None:
    """Tell what the kernel had no room for."""
    print(f"Lost {number} events", file=sys.stderr, flush=True)


def main() -> None:
    """Print until killed."""
    bpf = BPF(text=TEXT, cflags=sys.argv[1:])
    bpf.attach_kprobe(event="pci_match_device", fn_name="enter")
    bpf.attach_kretprobe(event="pci_match_device", fn_name="leave")

    def show(_cpu: int, data: object, _size: int) -> None:
        e = bpf["events"].event(data)
        print(
            *(e.ts, e.pid, e.tid, e.comm.decode(), e.cpu, e.driver.decode()),
            *(e.address.decode(), f"{e.vendor:x} {e.device:x} {e.subvendor:x}"),
            *(f"{e.subdevice:x} {e.override.decode()} {e.ret:x}",),
        )

    pages = int(os.environ.get("PAGES", "8"))
    bpf["events"].open_perf_buffer(show, page_cnt=pages, lost_cb=count_lost)
    while True:
        bpf.perf_buffer_poll()


if __name__ == "__main__":
    main()
