/** Names for containers that were given none: adjective_surname, as Docker's look. The lists are our own. */
import { randomInt } from 'node:crypto';

const ADJECTIVES = words(`
  able agile airy alert ample apt ardent astute avid awake balmy bold bonny brave breezy bright brisk bubbly buoyant
  calm candid careful caring cheery chipper civil clever cosmic cosy crafty crisp curious dapper daring dazzling deft
  devout diligent dreamy driven eager earnest easy ebullient elated eloquent epic exact exotic fair fancy fearless
  fervent festive fine firm fleet flowing fluent fond frank friendly frosty funny gallant gentle genial gifted giving
  glad gleaming golden graceful grand great handy happy hardy hearty helpful honest hopeful humble ideal inspired
  jolly jovial joyful keen kind laughing lively loving lucid lucky luminous magical majestic merry mighty mindful
  modest moonlit musing neat nifty nimble noble novel odd open patient peaceful peppy placid playful plucky poised
  polite precise proud pure quick quiet quirky radiant rapid ready relaxed resolute rosy sage serene sharp shiny silly
  sincere sleek smart snappy snug sober solid spirited splendid spry stable steady stellar stoic sturdy sublime subtle
  sunny suave sweet swift tender thrifty tidy tranquil trusting trusty upbeat upright useful valiant vast vibrant vigilant
  vivid warm whimsical wily winsome wise witty wonderful worthy xenial youthful zany zealous zen zesty
`);

/** People who found things out, or found a way: scientists, engineers, sailors and light-keepers. */
const SURNAMES = words(`
  abel agnesi airy alhazen ampere anning apgar archimedes ardern aryabhata avogadro babbage baird banneker bardeen bartik
  bassi bell bernoulli bessel bhabha bhaskara blackwell bohr bolyai boole borg boyle brahe brahmagupta brattain brown
  brunel burnell cannon cantor carson cartwright carver cauchy cavendish chandrasekhar chatelet cook copernicus cori
  coulomb cray curie cuvier dalton darling darwin davinci davy dewdney diffie dijkstra dirac drake driscoll dubinsky
  easley edison einstein elion engelbart eratosthenes euclid euler faraday fermat fermi feynman fitzroy fourier franklin
  fresnel galileo galois galton gauss germain goldberg goldstine goodall hale halley hamilton harrison haslett hawking
  heisenberg hellman hermann herschel hertz heyrovsky hipparchus hodgkin hofstadter hooke hoover hopper hubble huygens
  hypatia ishizaka jackson jang jemison jennings jepsen joliot jones joule kalam kapitsa kare keldysh keller kepler
  khayyam khorana kilby kirch kowalevski knuth lagrange lalande lamarr lamport laplace lavoisier leakey leavitt leibniz
  lewin lichterman linnaeus lister lovelace lumiere magellan mahavira maxwell mayer mccarthy mcclintock mclean mcnulty
  meitner mendel mendeleev merian mestorf mirzakhani montalcini morse murdock nash neumann newton nightingale nobel
  noether noyce ohm panini pare pascal pasteur payne perlman pike planck poincare poitras proskuriakova ptolemy raman
  ramanujan rhodes ride ritchie robinson roentgen rosalind rubin saha sammet sanderson shannon shaw shockley shtern
  sinoussi smeaton snyder solomon spence stevenson stonebraker sutherland swanson swartz swirles taussig tesla tharp
  thompson torvalds tu turing varahamihira vaughan villani visvesvaraya volhard wescoff wilbur wiles williams wilson
  wing wozniak wright wu yalow yonath zhukovsky
`);

/** `attempt` above 0 adds a digit: the plain ones were taken. */
export function randomName(attempt: number, pick: (count: number) => number = randomInt): string {
  const name = `${ADJECTIVES[pick(ADJECTIVES.length)]!}_${SURNAMES[pick(SURNAMES.length)]!}`;
  return attempt > 0 ? `${name}${pick(10)}` : name;
}

function words(text: string): readonly string[] {
  return text.trim().split(/\s+/);
}
