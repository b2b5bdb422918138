/** Network namespaces, interfaces and our nftables tables against the records of networks and containers. */
import { parseAddress } from '../../network/address.ts';
import { mappingElements, tableName, type PortMapping } from '../../network/ruleset.ts';
import type { Examined } from './examine.ts';
import { namesIn } from './host.ts';
import { REPAIR_ORDER, type Problem } from './problem.ts';
import { whyOrphan } from './process-checks.ts';

const FAMILIES = [
  [4, 'ip'],
  [6, 'ip6'],
] as const;
/** What the network room calls the bridges that it makes. */
const MADE_BRIDGE = /^br-[0-9a-f]{12}$/;

export async function checkNamespaces({ kernel, execRoot, records, repairs }: Examined): Promise<Problem[]> {
  const problems: Problem[] = [];
  for (const name of await namesIn(`${execRoot}/netns`)) {
    const why = whyOrphan(records.standing(name));
    if (why === null) continue;
    const path = `${execRoot}/netns/${name}`;
    const run = (): Promise<void> => kernel.network.removeNamespace(path);
    const repair = repairs(name, { does: 'let it go, and its interfaces with it', order: REPAIR_ORDER.namespace, run });
    problems.push({ check: 'namespace', subject: path, text: `network namespace ${path}: ${why}`, repair });
  }
  return problems;
}

/** Ends of pairs in our bridges that no container has. Others on the host have bridges, too: those are none of ours. */
export async function checkInterfaces({ kernel, records }: Examined): Promise<Problem[]> {
  const links = await kernel.network.links();
  const bridges = new Set(records.networks.map(({ network }) => network.bridgeName).filter((name) => name !== ''));
  const masters = new Map(links.filter(({ name }) => bridges.has(name)).map(({ index, name }) => [index, name]));
  const known = new Set(
    records.sandboxes.flatMap(({ endpoints }) => endpoints.map(({ hostInterface }) => hostInterface)),
  );
  const problems: Problem[] = [];
  for (const { name, kind, master } of links) {
    const bridge = masters.get(master);
    if (bridge === undefined || kind !== 'veth' || known.has(name)) continue;
    const run = async (): Promise<void> => void (await kernel.network.removeLink(name));
    const text = `interface ${name} in bridge ${bridge}: no container has it`;
    problems.push({
      check: 'interface',
      subject: name,
      text,
      repair: { does: 'delete it', order: REPAIR_ORDER.network, run },
    });
  }
  return problems;
}

/** Published ports of our own tables that no container has, and bridges of networks that are gone. */
export async function checkFirewall({ kernel, records }: Examined): Promise<Problem[]> {
  const defaultBridge = records.networks.find(({ network }) => network.name === 'bridge')?.network.bridgeName;
  if (defaultBridge === undefined || defaultBridge === '') return [];
  const table = tableName(defaultBridge);
  const bridges = new Set(records.networks.map(({ network }) => network.bridgeName));
  const mappings = records.sandboxes.flatMap((sandbox) => sandbox.mappings.flatMap(toMapping));
  const problems: Problem[] = [];
  for (const [family, word] of FAMILIES) {
    const listing = await kernel.nftables.run(`list table ${word} ${table}`).catch(() => null);
    if (listing === null) continue; // there is none: made at the next start of the daemon
    const expected = elementsInScript(mappingElements('add', table, family, mappings));
    for (const [set, elements] of elementsInListing(listing)) {
      for (const element of elements) {
        const isBridge = set === 'bridges';
        if (isBridge ? bridges.has(element) : !PORT_SETS.includes(set) || expected.get(set)?.has(element) === true)
          continue;
        const key = isBridge ? `"${element}"` : element.replace(/ : .*$/, '');
        const run = async (): Promise<void> =>
          void (await kernel.nftables.run(`delete element ${word} ${table} ${set} { ${key} }\n`));
        const text = isBridge
          ? `nft ${word} ${table}: rules for bridge ${element}, which no network has`
          : `nft ${word} ${table}: port ${element} (${set}), which no container publishes`;
        problems.push({
          check: 'firewall',
          subject: `${word} ${table} ${set} ${element}`,
          text,
          repair: { does: 'delete it', order: REPAIR_ORDER.network, run },
        });
        if (isBridge && MADE_BRIDGE.test(element)) problems.push(...(await checkBridge(kernel, element)));
      }
    }
  }
  return problems;
}

const PORT_SETS: readonly string[] = ['anywhere', 'at', 'ranges', 'open'];

/** That our table names it shows that we made it. */
async function checkBridge(kernel: Examined['kernel'], name: string): Promise<Problem[]> {
  const links = await kernel.network.links();
  if (!links.some((link) => link.name === name && link.kind === 'bridge')) return [];
  const run = async (): Promise<void> => void (await kernel.network.removeLink(name));
  const text = `bridge ${name}: no network has it`;
  return [{ check: 'interface', subject: name, text, repair: { does: 'delete it', order: REPAIR_ORDER.network, run } }];
}

function toMapping({
  hostAddress,
  containerAddress,
  ...rest
}: { hostAddress: string; containerAddress: string } & Omit<
  PortMapping,
  'hostAddress' | 'containerAddress'
>): PortMapping[] {
  const host = parseAddress(hostAddress);
  const container = parseAddress(containerAddress);
  return host === null || container === null ? [] : [{ ...rest, hostAddress: host, containerAddress: container }];
}

/** "add element ip T set { a, b }" by set. */
function elementsInScript(script: string): Map<string, Set<string>> {
  const found = new Map<string, Set<string>>();
  for (const [, set = '', list = ''] of script.matchAll(/^add element \S+ \S+ (\S+) \{ (.*) \}$/gm)) {
    found.set(set, new Set(list.split(', ').map(normal)));
  }
  return found;
}

/** What `nft list table` shows, by set. Exported for its test. */
export function elementsInListing(listing: string): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const [, set = '', body = ''] of listing.matchAll(
    /^\t(?:set|map) (\S+) \{(?: # handle \d+)?\n([\s\S]*?)^\t\}/gm,
  )) {
    const elements = /elements = \{([\s\S]*?)\}/.exec(body)?.[1];
    if (elements === undefined) continue;
    found.set(
      set,
      elements
        .split(',')
        .map(normal)
        .filter((element) => element !== ''),
    );
  }
  return found;
}

function normal(element: string): string {
  return element.replaceAll('"', '').replaceAll(/\s+/g, ' ').trim();
}
