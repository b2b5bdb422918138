/**
 * What the rest of the engine may ask of the Linux kernel: narrow, typed, asynchronous. The implementation runs
 * koffi in one worker thread (kernel/worker.ts); every failure is a KernelError that names the call, its
 * arguments and its errno. "ensure…" and "remove…" are idempotent.
 */

export interface Kernel extends AsyncDisposable {
  readonly mounts: Mounts;
  readonly network: LinkLayer;
  readonly nftables: Nftables;
  readonly processes: Processes;
  readonly cgroups: Cgroups;
  readonly files: Files;
  readonly seccomp: Seccomp;
  /**
   * To an AF_UNIX datagram socket; how many of the messages, from the first on, it took before its queue was full. `large`:
   * what is too large for a datagram is an error (default), or goes as a sealed memfd, as journals take it.
   */
  sendDatagrams(path: string, messages: readonly Uint8Array[], large?: 'error' | 'memfd'): Promise<number>;
}

export interface Mounts {
  /** Any number of lower directories, topmost first. Works above 4 KiB of options. */
  overlay(options: {
    readonly lowerDirs: readonly string[];
    /** null: read-only. */
    readonly upper: { readonly upperDir: string; readonly workDir: string } | null;
    readonly target: string;
    /** Never synced: for rootfs that are thrown away. */
    readonly volatile?: boolean;
  }): Promise<void>;
  /** mount(2). `flags` is MS_*. */
  mount(options: {
    readonly source: string;
    readonly target: string;
    readonly type: string;
    readonly flags: number;
    readonly data: string;
  }): Promise<void>;
  /** umount2 with MNT_DETACH; false when nothing was mounted there. Never blocks other calls (overlay syncs its file system). */
  unmount(target: string): Promise<boolean>;
  /** Mount points at or below a directory, deepest first, from /proc/self/mountinfo. */
  below(directory: string): Promise<string[]>;
}

export interface InterfaceAddress {
  /** "172.17.0.2" or "fd00::2" */
  readonly address: string;
  readonly prefixLength: number;
}

export interface LinkLayer {
  /** A named network namespace, bind-mounted at `path`, with lo up: a new one, or the one that `source` leads to. */
  createNamespace(path: string, source?: string): Promise<void>;
  /** Unmounts and unlinks; the kernel takes its interfaces away by itself. */
  removeNamespace(path: string): Promise<void>;
  /** Makes the bridge if it is missing, sets MTU and addresses, brings it up. */
  ensureBridge(options: {
    readonly name: string;
    /** null: as it is. */
    readonly mtu: number | null;
    readonly addresses: readonly InterfaceAddress[];
    readonly mac?: string;
  }): Promise<void>;
  /** One veth pair: the host's end in `bridge`, the other in the namespace, renamed, addressed, up, with routes. All or nothing. */
  connectVeth(options: {
    readonly namespace: string;
    readonly hostName: string;
    readonly bridge: string;
    readonly containerName: string; // "eth0"
    readonly mac: string;
    readonly mtu: number;
    readonly addresses: readonly InterfaceAddress[];
    /** Default routes; none when the list is empty. */
    readonly gateways: readonly string[];
    /** Port isolation on the bridge (inter-container communication off). */
    readonly isolated?: boolean;
    /** What it sends may come back to it: its own published ports, where br_netfilter redirects bridged packets. */
    readonly hairpin?: boolean;
  }): Promise<void>;
  /** "eth0.10": a sub-interface of `parent` for one VLAN (1 to 4094), up. Idempotent. */
  ensureVlanLink(options: { readonly name: string; readonly parent: string; readonly vlanId: number }): Promise<void>;
  /** macvlan or ipvlan on `parent`, moved into the namespace. */
  connectVlan(options: {
    readonly namespace: string;
    readonly parent: string;
    readonly kind: 'macvlan' | 'ipvlan';
    /** macvlan: "bridge", "private", "vepa", "passthru"; ipvlan: "l2", "l3", "l3s". */
    readonly mode: string;
    readonly containerName: string;
    readonly mac: string;
    /** null: the parent's. */
    readonly mtu: number | null;
    readonly addresses: readonly InterfaceAddress[];
    readonly gateways: readonly string[];
    /** Default routes by device, without a gateway (ipvlan l3). */
    readonly defaultByDevice?: boolean;
  }): Promise<void>;
  /** In the host's namespace. False when there is none of that name. */
  removeLink(name: string): Promise<boolean>;
  /** In the namespace: takes one interface away (network disconnect). */
  removeLinkIn(namespace: string, name: string): Promise<boolean>;
  /** Replaces the default route in the namespace. */
  setDefaultRoutes(namespace: string, gateways: readonly string[]): Promise<void>;
  links(): Promise<
    readonly {
      readonly index: number;
      readonly name: string;
      readonly kind: string;
      readonly master: number;
      readonly mtu: number;
    }[]
  >;
  addresses(): Promise<readonly (InterfaceAddress & { readonly index: number })[]>;
  /** IPv4 and IPv6 destinations that the host routes, "10.0.0.0/8" (the default route left out). */
  routes(): Promise<readonly string[]>;
  /** A UDP or TCP (listening) socket made inside the namespace, bound; the descriptor is the caller's. `port` 0: any. */
  bindSocket(options: {
    readonly namespace: string;
    readonly type: 'udp' | 'tcp';
    readonly address: string;
    readonly port: number;
  }): Promise<{ readonly fd: number; readonly port: number }>;
  /**
   * In the namespace, TCP and UDP that its own programs send to `address`:`port` (IPv4) go to `address`:`to`; the ip
   * table of that name holds this alone afterwards.
   */
  redirectPortIn(
    namespace: string,
    options: { readonly table: string; readonly address: string; readonly port: number; readonly to: number },
  ): Promise<void>;
  /** Tracked UDP flows to these ports of the host are forgotten: the next packet is looked at as a first one. */
  forgetUdpFlows(ports: readonly number[]): Promise<number>;
  /** Writes /proc/sys/… as seen from inside the namespace. `name` with dots or slashes: "net/ipv4/ip_forward". */
  setSysctlIn(namespace: string, name: string, value: string): Promise<void>;
}

export interface Nftables {
  /** Runs a script in nft's text syntax as one transaction. Scripts queue; the error carries nft's own text. */
  run(script: string): Promise<string>;
}

export interface Processes {
  /**
   * posix_spawn: default signal mask and dispositions, own session, stdin/out/err on /dev/null, `descriptors`
   * become 3, 4, … in the child and nothing else is inherited. The caller reaps. Descriptors stay the caller's.
   */
  spawn(options: {
    readonly path: string;
    readonly argv: readonly string[];
    readonly env: readonly string[];
    readonly descriptors: readonly number[];
  }): Promise<{ readonly pid: number }>;
  /** Both ends close-on-exec, non-blocking stream sockets; both are the caller's. */
  socketPair(): Promise<readonly [number, number]>;
  closeDescriptor(fd: number): Promise<void>;
  /** Waits (without polling and without blocking other calls) for a child started by spawn(). Status as of waitpid. */
  reap(pid: number): Promise<{ readonly exitCode: number; readonly signal: number }>;
  /** Resolves when the process (any process, not only a child) has ended; at once when there is none. pidfd. */
  ended(pid: number, signal: AbortSignal): Promise<void>;
}

export interface Cgroups {
  /** "v1" also in hybrid mode when the controllers are on v1. */
  readonly version: 'v1' | 'v2';
  readonly systemd: boolean;
  /** Controllers that can be used, as v2 names them where both have one ("memory", "cpu", "pids", "io" …). */
  readonly controllers: readonly string[];
  /** Removes the cgroup `path` ("/longshore/ID") in every hierarchy, kills what is left in it first. */
  remove(path: string): Promise<void>;
  /** Pids in it and below. */
  processes(path: string): Promise<number[]>;
  freeze(path: string): Promise<void>;
  thaw(path: string): Promise<void>;
  /** All that are mounted, also those without a controller. */
  readonly hierarchies: readonly CgroupHierarchy[];
  /** Absolute directory of a controller's hierarchy for the path (v2: always the same). */
  directory(controller: string, path: string): string;
}

export interface CgroupHierarchy {
  /** One of the names that /proc/PID/cgroup gives it ("memory", "name=systemd"); "" is v2. */
  readonly key: string;
  readonly mountPoint: string;
  /** The cgroup that is mounted there: "/" but in a container. */
  readonly root: string;
}

export interface Files {
  getXattr(path: string, name: string): Promise<Buffer | null>;
  setXattr(path: string, name: string, value: Buffer): Promise<void>;
  listXattr(path: string): Promise<string[]>;
  /** l-variants: never follow a link in the last component. */
  makeNode(path: string, mode: number, major: number, minor: number): Promise<void>;
  setTimes(path: string, accessNs: bigint, modifyNs: bigint): Promise<void>;
  /**
   * openat2 with RESOLVE_IN_ROOT: a path as a process chrooted to `root` would see it; never escapes, whatever links
   * there are. With `escapes` "refused" (RESOLVE_BENEATH), what would lead out fails with EXDEV.
   */
  openInRoot(root: string, path: string, flags: number, mode: number, escapes?: 'clamped' | 'refused'): Promise<number>;
  /** Removes a tree without following links or crossing mount points. Off the main loop; missing is fine. */
  removeTree(path: string): Promise<void>;
  /** Many small operations in one round trip to the worker, in order; stops at the first failure and names it. */
  batch(
    operations: readonly FileOperation[],
    /** All paths, also targets of hard links, are then below it and resolved as if it were "/": no link in a hostile tree leads out. */
    root?: string,
  ): Promise<void>;
}

export type FileOperation =
  | { readonly kind: 'chown'; readonly path: string; readonly uid: number; readonly gid: number }
  | { readonly kind: 'chmod'; readonly path: string; readonly mode: number }
  | { readonly kind: 'times'; readonly path: string; readonly accessNs: bigint; readonly modifyNs: bigint }
  | { readonly kind: 'xattr'; readonly path: string; readonly name: string; readonly value: Uint8Array }
  | {
      readonly kind: 'node';
      readonly path: string;
      readonly mode: number;
      readonly major: number;
      readonly minor: number;
    }
  | { readonly kind: 'mkdir'; readonly path: string; readonly mode: number }
  | { readonly kind: 'symlink'; readonly path: string; readonly target: string }
  | { readonly kind: 'link'; readonly path: string; readonly target: string }
  /**
   * Small regular files: made (never through a link), written, closed. The content is the kernel room's from then on: where it
   * fills its memory it is moved and not copied, and cannot be used again.
   */
  | { readonly kind: 'file'; readonly path: string; readonly mode: number; readonly content: Uint8Array };

export interface Seccomp {
  readonly available: boolean;
  /** Compiles an OCI linux.seccomp object to classic BPF, as libseccomp exports it. Kept by the caller. */
  compile(profile: object): Promise<Buffer>;
}
