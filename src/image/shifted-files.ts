/**
 * The kernel's file operations for trees of remapped containers: what an archive says is a container's, what reaches the
 * disk is the host's. Owners are shifted on their way in, whatever is made belongs to the container's root at once, and file
 * capabilities are bound to that root, since the kernel would not honour the plain form inside a user namespace.
 * Source: user_namespaces(7), capabilities(7) "File capability versioning".
 */
import { isRemapped, rootOf, toHost, type IdMap } from '../core/id-map.ts';
import type { FileOperation, Files } from '../kernel/port.ts';

const CAPABILITY = 'security.capability';
/** struct vfs_cap_data: magic_etc, then two pairs of masks; version 3 adds the root's uid. */
const CAPABILITY_V2_BYTES = 20;
const REVISION_BYTE = 3;
const REVISION_2 = 2;
const REVISION_3 = 3;

/** The same object where nothing is remapped. */
export function shiftedFiles(files: Files, map: IdMap): Files {
  if (!isRemapped(map)) return files;
  const root = rootOf(map);
  return {
    getXattr: async (path, name) => {
      const value = await files.getXattr(path, name);
      return value !== null && name === CAPABILITY ? plainCapability(value) : value;
    },
    setXattr: (path, name, value) => files.setXattr(path, name, shiftedXattr(name, value, root.uid)),
    listXattr: (path) => files.listXattr(path),
    makeNode: (path, mode, major, minor) => files.makeNode(path, mode, major, minor),
    setTimes: (path, accessNs, modifyNs) => files.setTimes(path, accessNs, modifyNs),
    openInRoot: (directory, path, flags, mode) => files.openInRoot(directory, path, flags, mode),
    removeTree: (path) => files.removeTree(path),
    batch: async (operations, directory) =>
      files.batch(
        operations.flatMap((operation) => shifted(operation, map)),
        directory,
      ),
  };
}

function shifted(operation: FileOperation, map: IdMap): FileOperation[] {
  switch (operation.kind) {
    case 'chown':
      return [{ ...operation, ...toHost(map, operation) }];
    case 'xattr':
      return [{ ...operation, value: shiftedXattr(operation.name, Buffer.from(operation.value), rootOf(map).uid) }];
    case 'mkdir':
    case 'file':
    case 'node': {
      const { path, mode } = operation;
      // A change of owner takes the setuid bits away.
      const chmod: FileOperation[] = (mode & 0o6000) === 0 ? [] : [{ kind: 'chmod', path, mode: mode & 0o7777 }];
      return [operation, { kind: 'chown', path, ...rootOf(map) }, ...chmod];
    }
    case 'symlink':
      return [operation, { kind: 'chown', path: operation.path, ...rootOf(map) }];
    case 'chmod':
    case 'times':
    case 'link':
      return [operation];
  }
}

function shiftedXattr(name: string, value: Buffer, rootUid: number): Buffer {
  if (name !== CAPABILITY || value.length !== CAPABILITY_V2_BYTES || value[REVISION_BYTE] !== REVISION_2) return value;
  const bound = Buffer.concat([value, Buffer.alloc(4)]);
  bound[REVISION_BYTE] = REVISION_3;
  bound.writeUInt32LE(rootUid, CAPABILITY_V2_BYTES);
  return bound;
}

/** In archives a capability is nobody's in particular. */
function plainCapability(value: Buffer): Buffer {
  if (value[REVISION_BYTE] !== REVISION_3 || value.length < CAPABILITY_V2_BYTES) return value;
  const plain = Buffer.from(value.subarray(0, CAPABILITY_V2_BYTES));
  plain[REVISION_BYTE] = REVISION_2;
  return plain;
}
