/** Abbreviations that keep their full stop, as Stanford's PTBTokenizer 3.4.1 was observed to keep it. */

/** In any case of letters. */
export const abbreviations = `
  adj adm adv al ala alex apr ariz assn assoc asst atty attys aug ave bancorp bhd bldg blvd brig bros calif capt
  cf cie cmdr co col colo comdr conn corp cos cpl ct dak dec dept det dr drs elec ens esq est etc ext feb fla fri
  ft ga gen gov govs hon inc ind insp intl jan jos jr jul jun kan kans ky lieut lt ltd maj mar md messrs mfg mich
  minn mlle mme mo mon mont mr mrs ms msgr mt mtg natl neb nev nov oct okla penn pfc ph plc pres prof profs pte
  pty pvt rd rep reps rev rt sen sens sep sept seq sfc sgt spc sq sr st ste supt sys tel tenn thu thurs treas tue
  tues univ va vs vt wed wis wisc wm wyo
`;

/** With a capital only: without one these are words, or the end of a sentence. */
export const capitalAbbreviations = `
  Ark Az Del Ill La Mass Miss Ore Pa Tex Wash
`;

/** Before a number. */
export const abbreviationsBeforeNumbers = `
  art ca fig figs no nos op pp prop
`;
