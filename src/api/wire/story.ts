/** GET /containers/{id}/why: our own, in the spelling of Docker's API. docs/why.md describes it. */
import type { Story } from '../../container/port.ts';

export function formatStory({ id, name, status, policy, entries, next }: Story): object {
  return {
    Id: id,
    Name: `/${name}`,
    Status: status,
    RestartPolicy: policy,
    Next: next === null ? null : { Text: next.text, At: next.at },
    Entries: entries.map(({ sequence, at, run, from, to, cause, what, text }) => {
      const { kind, ...facts } = what;
      return {
        Sequence: sequence,
        Time: at,
        Run: run,
        From: from,
        To: to,
        Actor: cause.actor,
        Cause: cause.detail,
        Kind: kind,
        Facts: capitalised(facts),
        Text: text,
      };
    }),
  };
}

/** "killAt" is "KillAt", as deep as it goes. */
function capitalised(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(capitalised);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [key.charAt(0).toUpperCase() + key.slice(1), capitalised(inner)]),
  );
}
