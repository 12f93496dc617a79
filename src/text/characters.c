#include "text/characters.h"

#include <utf8proc.h>

/* Blocks of the scripts that are written without spaces between words (Unicode 14, Blocks.txt), as far as letters
 * are concerned: first and last. Characters that NFKC replaces (half-width katakana, compatibility ideographs)
 * do not occur. */
static const int32_t unspaced[][2] = {
    {0x0e00, 0x0eff},   /* Thai, Lao */
    {0x1000, 0x109f},   /* Myanmar */
    {0x1780, 0x17ff},   /* Khmer */
    {0x1950, 0x19df},   /* Tai Le, New Tai Lue */
    {0x1a20, 0x1aaf},   /* Tai Tham */
    {0x2e80, 0x2fdf},   /* radicals */
    {0x3005, 0x3007},   /* iteration mark, closing mark, zero */
    {0x3021, 0x3029},   /* Hangzhou numerals */
    {0x3031, 0x312f},   /* kana repeat marks, Hiragana, Katakana, Bopomofo */
    {0x31a0, 0x31bf},   /* Bopomofo Extended */
    {0x31f0, 0x31ff},   /* Katakana Phonetic Extensions */
    {0x3400, 0x4dbf},   /* CJK Extension A */
    {0x4e00, 0x9fff},   /* CJK Unified Ideographs */
    {0xa000, 0xa4cf},   /* Yi */
    {0xa9e0, 0xa9ff},   /* Myanmar Extended-B */
    {0xaa60, 0xaadf},   /* Myanmar Extended-A, Tai Viet */
    {0xf900, 0xfaff},   /* compatibility ideographs that stay */
    {0x16fe0, 0x18cff}, /* Tangut, Khitan */
    {0x1aff0, 0x1b16f}, /* Kana Supplement and Extended */
    {0x20000, 0x3ffff}, /* CJK Extensions B and on */
};

static int is_unspaced(int32_t c)
{
    for (size_t i = 0; i < sizeof unspaced / sizeof *unspaced && c >= unspaced[i][0]; i++)
        if (c <= unspaced[i][1]) return 1;
    return 0;
}

ki_character ki_character_at(const char *text, size_t size, size_t *length)
{
    unsigned char byte = (unsigned char)text[0];
    *length = 1;
    if (byte < 0x80)
        return (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z')
                   ? KI_LETTER
                   : KI_SEPARATOR;
    utf8proc_int32_t c;
    utf8proc_ssize_t bytes = utf8proc_iterate((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)size, &c);
    if (bytes <= 0) return KI_SEPARATOR;
    *length = (size_t)bytes;
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME: return KI_MARK;
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO: return is_unspaced(c) ? KI_SYLLABLE : KI_LETTER;
    default: return KI_SEPARATOR;
    }
}
