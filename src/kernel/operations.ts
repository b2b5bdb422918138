/** Everything that the worker can be asked for, by name. The client's types derive from this table. */
import { forgetUdpFlows } from './conntrack.ts';
import { closeNftables, redirectPortIn, runScript } from './nftables.ts';
import { sendDatagrams } from './datagram.ts';
import { applyBatch, makeNode, openInRoot, setTimes } from './file-operation.ts';
import {
  addresses,
  closeLinkLayer,
  connectVeth,
  connectVlan,
  createNamespace,
  ensureBridge,
  ensureVlanLink,
  links,
  removeLink,
  removeLinkIn,
  removeNamespace,
  routes,
  setDefaultRoutes,
} from './link-layer.ts';
import { mount, mountsBelow, overlay, unmount } from './mount.ts';
import { bindSocket, setSysctlIn } from './namespace-socket.ts';
import { closeHostNamespace } from './netns.ts';
import { closeDescriptor, ended, forget, forgetAll, reap, socketPair, spawn } from './process.ts';
import { compileSeccomp } from './seccomp.ts';
import { removeTree } from './tree.ts';
import { getXattr, listXattr, setXattr } from './xattr.ts';

export const operations = {
  overlay,
  mount,
  unmount,
  mountsBelow,
  createNamespace,
  removeNamespace,
  ensureBridge,
  ensureVlanLink,
  connectVeth,
  connectVlan,
  removeLink,
  removeLinkIn,
  setDefaultRoutes,
  links,
  addresses,
  routes,
  bindSocket,
  sendDatagrams,
  setSysctlIn,
  runScript,
  redirectPortIn,
  forgetUdpFlows,
  spawn,
  socketPair,
  closeDescriptor,
  reap,
  ended,
  forget,
  getXattr,
  setXattr,
  listXattr,
  makeNode,
  setTimes,
  openInRoot,
  removeTree,
  applyBatch,
  compileSeccomp,
  /** Gives back what the worker holds; nothing may be asked after it. */
  close(): void {
    forgetAll();
    closeNftables();
    closeLinkLayer();
    closeHostNamespace();
  },
};

export type Operations = typeof operations;
export type OperationName = keyof Operations;
