/** X-Registry-Auth and the body of POST /auth. Source: moby api/types/registry/authconfig.go (v28). */
import type { RegistryAuth } from '../../image/port.ts';
import { isObject, struct, text, type Decoded } from './decode.ts';

export const authConfig = struct('registry.AuthConfig', {
  username: text,
  password: text,
  auth: text,
  serveraddress: text,
  identitytoken: text,
  registrytoken: text,
});

/** null for a header that is missing, empty or damaged: a pull may always be tried without credentials. */
export function parseAuthHeader(header: string | string[] | undefined): RegistryAuth | null {
  if (typeof header !== 'string' || header === '') return null;
  try {
    const value: unknown = JSON.parse(Buffer.from(header, 'base64').toString('utf8'));
    if (!isObject(value)) return null;
    const auth = parseAuth(authConfig.decode(value, { struct: '', field: '' }));
    return auth.username === '' && auth.password === '' && auth.identityToken === '' && auth.registryToken === ''
      ? null
      : auth;
  } catch {
    return null;
  }
}

/** X-Registry-Config of a build: credentials by registry. */
export function parseConfigHeader(header: string | string[] | undefined): Record<string, RegistryAuth> {
  if (typeof header !== 'string' || header === '') return {};
  try {
    const value: unknown = JSON.parse(Buffer.from(header, 'base64').toString('utf8'));
    if (!isObject(value)) return {};
    return Object.fromEntries(
      Object.entries(value)
        .filter(([, auth]) => isObject(auth))
        .map(([registry, auth]) => [registry, parseAuth(authConfig.decode(auth, { struct: '', field: '' }))]),
    );
  } catch {
    return {};
  }
}

export function parseAuth(config: Decoded<typeof authConfig>): RegistryAuth {
  const [user = '', ...password] = Buffer.from(config.auth, 'base64').toString('utf8').replace(/\0+$/, '').split(':');
  return {
    username: config.username || user,
    password: config.password || password.join(':'),
    identityToken: config.identitytoken,
    registryToken: config.registrytoken,
    serverAddress: config.serveraddress,
  };
}
