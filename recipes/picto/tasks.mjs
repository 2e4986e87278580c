/**
 * The eleven tasks of Picto-11: what their classes are. A class is a name and the concepts (names of emoji, or of icons
 * without words of style) whose drawings belong to it.
 */

/** One concept per class, by Unicode's subgroups. */
export const emojiTasks = {
  animals: /^animal-/,
  food: /^(food-|drink$)/,
  'faces-and-hands': /^(face-|cat-face|monkey-face|hand)/,
  'transport-and-places': /^(transport-(ground|water|air)|place-)/,
};

/** Subgroups are the classes. */
export const coarseTasks = {
  'nature-and-food': {
    mammal: ['animal-mammal'], bird: ['animal-bird'], 'sea animal': ['animal-marine'], insect: ['animal-bug'],
    reptile: ['animal-reptile', 'animal-amphibian'], flower: ['plant-flower'], plant: ['plant-other'],
    fruit: ['food-fruit'], vegetable: ['food-vegetable'], meal: ['food-prepared'], 'asian food': ['food-asian'],
    sweets: ['food-sweet'], drink: ['drink'], tableware: ['dishware'], 'sky and weather': ['sky-weather'],
    'smiling face': ['face-smiling', 'face-affection'], 'unhappy face': ['face-concerned', 'face-negative'],
  },
  'people-and-objects': {
    hand: ['hand-fingers-open', 'hand-fingers-partial', 'hand-single-finger', 'hand-fingers-closed', 'hands'],
    'body part': ['body-parts'], profession: ['person-role'], 'fantasy figure': ['person-fantasy'],
    'person doing sport': ['person-sport'], family: ['family'], clothing: ['clothing'],
    'musical instrument': ['musical-instrument'], sport: ['sport'], game: ['game'], tool: ['tool'],
    computer: ['computer'], book: ['book-paper'], office: ['office'], money: ['money'], mail: ['mail'],
    household: ['household'], 'land vehicle': ['transport-ground'], boat: ['transport-water'],
    aircraft: ['transport-air'], building: ['place-building', 'place-religious'], clock: ['time'],
    science: ['science', 'medical'], heart: ['heart'],
  },
};

/** The same concept from many interface sets. The first word is the class's name. */
export const interfaceTasks = {
  navigation: [
    'home, house', 'menu, hamburger menu, menu bars', 'arrow left', 'arrow right', 'arrow up', 'arrow down',
    'chevron left', 'chevron right', 'search, magnifying glass, magnifier, magnify', 'map', 'compass',
    'map pin, location, map marker, location pin, pin location, marker', 'globe, earth, world, web', 'bookmark',
    'external link, link external', 'refresh, reload, sync', 'log out, logout, sign out', 'log in, login, sign in',
    'settings, cog, gear', 'filter, funnel', 'dashboard, gauge, speedometer', 'grid, apps', 'list',
    'expand, maximize, fullscreen', 'undo', 'redo', 'download', 'upload', 'anchor', 'rocket',
  ],
  communication: [
    'mail, envelope, email', 'phone, telephone', 'chat, message, comment, speech bubble, chat bubble', 'bell, notification',
    'send, paper plane, paperplane', 'megaphone, bullhorn, announcement', 'users, people, group', 'user, person, account',
    'share', 'inbox', 'at, at sign, mention', 'microphone, mic', 'headphones, headset', 'wifi', 'rss',
    'reply', 'paperclip, attachment, attach', 'translate, language', 'smile, emoji, face smile, happy, smiley', 'contact, contacts, address book',
    'satellite, satellite dish', 'radio', 'newspaper, news', 'quote, quotes', 'thumbs up, like', 'thumbs down, dislike',
    'hash, hashtag', 'video camera, video', 'antenna, broadcast', 'printer, print',
  ],
  media: [
    'play', 'pause', 'stop', 'fast forward, forward', 'rewind, backward', 'skip forward, skip next, next track', 'shuffle',
    'repeat, loop', 'volume up, volume high, speaker high', 'volume off, volume mute, mute, volume x, speaker mute', 'music, music note, musical note',
    'camera', 'image, picture, photo', 'film, movie', 'eject', 'playlist', 'record, vinyl record, vinyl, disc',
    'television, tv', 'brush, paint brush, paintbrush', 'palette, color palette', 'crop', 'scissors, cut', 'pencil, edit',
    'eraser', 'layers, stack', 'equalizer, sliders, adjustments', 'subtitles, closed captions, closed caption, captions', 'microphone stage, karaoke',
    'piano', 'guitar',
  ],
  commerce: [
    'shopping cart, cart', 'shopping bag, bag', 'basket, shopping basket', 'credit card', 'wallet', 'gift, present',
    'tag, price tag, label', 'receipt, invoice, bill', 'barcode', 'qr code, qrcode', 'store, shop, storefront',
    'truck, delivery truck', 'package, box, parcel', 'coins, coin', 'bank', 'dollar, dollar sign, currency dollar',
    'euro, euro sign, currency euro', 'percent, percentage, discount', 'calculator', 'briefcase, suitcase', 'chart bar, bar chart',
    'chart pie, pie chart', 'piggy bank', 'trophy', 'ticket', 'scale, balance, scales', 'safe, vault', 'building, office building',
    'handshake', 'diamond, gem',
  ],
  'devices-and-tools': [
    'laptop', 'monitor, desktop, computer', 'mobile, smartphone, phone mobile', 'tablet', 'keyboard', 'mouse, computer mouse',
    'watch, smartwatch', 'server', 'database', 'cpu, processor, chip', 'battery full', 'battery low', 'plug, power plug',
    'usb', 'bluetooth', 'gamepad, game controller, controller', 'hard drive, hard disk, hdd', 'lightbulb, light bulb, bulb',
    'lock', 'unlock, lock open', 'key', 'wrench, spanner', 'hammer', 'magnet', 'thermometer', 'umbrella', 'calendar',
    'clock, time', 'trash, delete, bin', 'folder', 'flashlight, torch', 'fire, flame', 'robot', 'fingerprint', 'shield',
  ],
};
