import assert from 'node:assert/strict';
import { test } from 'node:test';

import { proxiesOf, proxyFor } from './proxy.ts';

test('proxiesOf: what was given comes before the environment, upper case before lower', () => {
  const env = { HTTP_PROXY: 'a', http_proxy: 'b', https_proxy: 'c', NO_PROXY: 'd' };
  assert.deepEqual(proxiesOf(env), { http: 'a', https: 'c', no: 'd' });
  assert.deepEqual(proxiesOf(env, { http: 'x', no: 'y' }), { http: 'x', https: 'c', no: 'y' });
});

test('proxyFor: chooses as the proxy settings of Go do', () => {
  const proxies = { http: 'http://p:1', https: 'p:2', no: '' };
  const to = (url: string, no = ''): string => proxyFor(new URL(url), { ...proxies, no });
  assert.equal(to('http://a.example/'), 'http://p:1');
  assert.equal(to('https://a.example/'), 'http://p:2');
  assert.equal(proxyFor(new URL('https://a.example'), { ...proxies, https: '' }), '');
  for (const loopback of ['http://localhost:5000', 'http://127.9.9.9', 'http://[::1]:80'])
    assert.equal(to(loopback), '');
  const exempt: [no: string, url: string, isExempt: boolean][] = [
    ['*', 'https://x.y', true],
    ['a.example', 'https://a.example', true],
    ['a.example', 'https://b.a.example', true],
    ['a.example', 'https://ba.example', false],
    ['.a.example', 'https://a.example', false],
    ['.a.example', 'https://b.a.example', true],
    ['*.a.example', 'https://b.a.example', true],
    ['x, A.Example ', 'https://a.example', true],
    ['a.example:5000', 'https://a.example:5000', true],
    ['a.example:5000', 'https://a.example', false],
    ['a.example:443', 'https://a.example', true],
    ['10.1.2.3', 'http://10.1.2.3', true],
    ['10.0.0.0/8', 'http://10.1.2.3:5000', true],
    ['10.0.0.0/8', 'http://11.1.2.3', false],
    ['10.0.0.0/x', 'http://10.1.2.3', false],
    ['10.1.2.3:81', 'http://10.1.2.3:80', false],
    ['fd00::/8', 'http://[fd12::1]', true],
    ['fd12::1', 'http://[fd12::1]', true],
    ['[fd12::1]:81', 'http://[fd12::1]', false],
    ['2.3', 'http://10.1.2.3', false],
  ];
  for (const [no, url, isExempt] of exempt) assert.equal(to(url, no) === '', isExempt, `${no} ${url}`);
});
